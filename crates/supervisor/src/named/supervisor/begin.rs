//! How a run begins, or is gone on with.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use sameport_policy::lifecycle::{Action, Lifecycle};
use sameport_sys::fd::inherit;
use sameport_sys::run_files::NameClaim;
use sameport_sys::seccomp::NotifyListener;
use sameport_sys::systemd::NotifySocket;
use tokio::sync::mpsc;

use super::{FirstProcess, NamedParts, ROUND, Supervisor};
use crate::control::{ControlSocket, PendingRequest, RunInfo};
use crate::error::RunError;
use crate::handover;
use crate::handover::HandoverState;
use crate::interpose::Interposer;
use crate::plan::{NamedOptions, ReadyCheck, RunPlan};
use crate::report::Reporter;
use crate::runtime::end_at_once;

impl<'a> Supervisor<'a> {
    /// Starts every worker. On failure, those before it have been ended. Within a tokio runtime.
    pub(crate) fn start(
        plan: &'a RunPlan,
        named: &'a NamedOptions,
        interposer: Box<dyn Interposer>,
        beside: Reporter,
        claim: NameClaim,
        about: RunInfo,
        with: NamedParts,
    ) -> Result<Self, RunError> {
        let door = ControlSocket::open(claim, about.clone())
            .map_err(|error| RunError::System("listen", error))?;
        let life = Lifecycle::new(named.settings.clone());
        let mut supervisor = Self::new(plan, named, interposer, beside, door, (about, life, with))?;
        let orders = supervisor.life.start_all(Duration::ZERO);
        for order in orders {
            let Action::Start { instance: start, ordinal, command, predecessor } = order else {
                continue;
            };
            if let Err(error) = supervisor.start_worker(start, ordinal, command, predecessor) {
                end_at_once(supervisor.processes.values().map(|process| process.pid));
                return Err(RunError::Start(error));
            }
        }
        Ok(supervisor)
    }

    /// Goes on with the run that this process had before it executed us. Within a tokio runtime.
    pub(crate) fn resume(
        plan: &'a RunPlan,
        named: &'a NamedOptions,
        interposer: Box<dyn Interposer>,
        beside: Reporter,
        letter: HandoverState,
        with: NamedParts,
    ) -> Result<Self, RunError> {
        let failed = |error| RunError::System("go on with the run", error);
        let life = Lifecycle::restore(named.settings.clone(), letter.snapshot());
        let about = letter.about.clone();
        let door = ControlSocket::passed(named.name.clone(), about.clone(), letter.door)
            .map_err(failed)?;
        let mut supervisor = Self::new(plan, named, interposer, beside, door, (about, life, with))?;
        supervisor.clock = letter.clock;
        supervisor.next_round = letter.clock + ROUND;
        supervisor.commands = letter.commands;
        supervisor.held.take(&letter.sockets, &letter.groups).map_err(failed)?;
        for worker in letter.workers {
            let handover::HandoverWorker { start, ordinal, pid, detached, .. } = worker;
            let listener = inherit::take(worker.listener).map_err(|errno| failed(errno.into()))?;
            supervisor.held.begin(start, None);
            supervisor.attend_to(start, NotifyListener::new(listener)).map_err(failed)?;
            supervisor.processes.insert(start, FirstProcess { pid, ordinal, detached });
        }
        supervisor.held.steer(supervisor.life.serving());
        Ok(supervisor)
    }

    pub(crate) fn new(
        plan: &'a RunPlan,
        named: &'a NamedOptions,
        interposer: Box<dyn Interposer>,
        beside: Reporter,
        (door, calls): (ControlSocket, mpsc::Receiver<PendingRequest>),
        (about, life, with): (RunInfo, Lifecycle, NamedParts),
    ) -> Result<Self, RunError> {
        let notices = match named.ready {
            ReadyCheck::Notify => {
                let notices = NotifySocket::open()
                    .map_err(io::Error::from)
                    .and_then(NotifySocket::into_async);
                Some(notices.map_err(|error| RunError::System("open NOTIFY_SOCKET", error))?)
            }
            _ => None,
        };
        Ok(Self {
            plan,
            named,
            interposer,
            beside,
            door,
            calls,
            about,
            life,
            held: with.held,
            telling: with.telling,
            asked_to_stop: false,
            commands: vec![plan.command.clone()],
            processes: BTreeMap::new(),
            listeners: BTreeMap::new(),
            draining: BTreeMap::new(),
            orphans: BTreeMap::new(),
            daemons: BTreeMap::new(),
            probes: BTreeMap::new(),
            probed: mpsc::channel(64),
            caller: None,
            checks: BTreeMap::new(),
            checking: mpsc::channel(64),
            notices,
            notified: BTreeSet::new(),
            asked_to_notify: BTreeSet::new(),
            waiting: BTreeMap::new(),
            clock: Duration::ZERO,
            next_round: ROUND,
            next_look: Duration::ZERO,
            untold: Vec::new(),
            outcome: None,
        })
    }
}
