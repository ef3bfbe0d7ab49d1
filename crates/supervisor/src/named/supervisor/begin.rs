//! How a run begins, or is gone on with.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use sameport_policy::lifecycle::{Life, Order};
use sameport_sys::fd::inherit;
use sameport_sys::process::Notices;
use sameport_sys::run_files::Claim;
use sameport_sys::seccomp::Listener;
use tokio::sync::mpsc;

use super::{Process, ROUND, Supervisor, With};
use crate::control::{About, Call, Door};
use crate::handover;
use crate::handover::Letter;
use crate::interpose::{Beside, Interposer};
use crate::named::{Named, Ready};
use crate::start::end_at_once;
use crate::{Error, Plan};

impl<'a> Supervisor<'a> {
    /// Starts every worker. On failure, those before it have been ended. Within a tokio runtime.
    pub(crate) fn start(
        plan: &'a Plan,
        named: &'a Named,
        interposer: Interposer,
        beside: Beside,
        claim: Claim,
        about: About,
        with: With,
    ) -> Result<Self, Error> {
        let door =
            Door::open(claim, about.clone()).map_err(|error| Error::System("listen", error))?;
        let life = Life::new(named.settings.clone());
        let mut supervisor = Self::new(plan, named, interposer, beside, door, (about, life, with))?;
        let orders = supervisor.life.begin(Duration::ZERO);
        for order in orders {
            let Order::Start { start, ordinal, command, predecessor } = order else { continue };
            if let Err(error) = supervisor.start_worker(start, ordinal, command, predecessor) {
                end_at_once(supervisor.processes.values().map(|process| process.pid));
                return Err(Error::Start(error));
            }
        }
        Ok(supervisor)
    }

    /// Goes on with the run that this process had before it executed us. Within a tokio runtime.
    pub(crate) fn resume(
        plan: &'a Plan,
        named: &'a Named,
        interposer: Interposer,
        beside: Beside,
        letter: Letter,
        with: With,
    ) -> Result<Self, Error> {
        let failed = |error| Error::System("go on with the run", error);
        let life = Life::restore(named.settings.clone(), letter.snapshot());
        let about = letter.about.clone();
        let door = Door::passed(named.name.clone(), about.clone(), letter.door).map_err(failed)?;
        let mut supervisor = Self::new(plan, named, interposer, beside, door, (about, life, with))?;
        supervisor.clock = letter.clock;
        supervisor.next_round = letter.clock + ROUND;
        supervisor.commands = letter.commands;
        supervisor.held.take(&letter.sockets, &letter.groups).map_err(failed)?;
        for worker in letter.workers {
            let handover::Worker { start, ordinal, pid, detached, .. } = worker;
            let listener = inherit::take(worker.listener).map_err(|errno| failed(errno.into()))?;
            supervisor.held.begin(start, None);
            supervisor.attend_to(start, Listener::new(listener)).map_err(failed)?;
            supervisor.processes.insert(start, Process { pid, ordinal, detached });
        }
        supervisor.held.steer(supervisor.life.live());
        Ok(supervisor)
    }

    pub(crate) fn new(
        plan: &'a Plan,
        named: &'a Named,
        interposer: Interposer,
        beside: Beside,
        (door, calls): (Door, mpsc::Receiver<Call>),
        (about, life, with): (About, Life, With),
    ) -> Result<Self, Error> {
        let notices = match named.ready {
            Ready::Notify => {
                let notices = Notices::open().map_err(io::Error::from).and_then(Notices::watched);
                Some(notices.map_err(|error| Error::System("open NOTIFY_SOCKET", error))?)
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
