//! The seccomp interposer: workers run under a filter, and threads of the supervisor answer their
//! calls, one thread for each worker.

mod answer_thread;
mod bind_call;
mod call;
mod handler;
mod listen_call;
mod outbox;
mod own_sockets;
mod watchdog;

use std::io;
use std::sync::Arc;

use sameport_policy::seccomp::calls::Architecture;
use sameport_policy::seccomp::filter;
use sameport_policy::seccomp::filter::FilterOptions;
use sameport_sys::process;
use sameport_sys::process::SpawnOptions;
use sameport_sys::seccomp::{FilterInstall, NotifyListener};
use tokio::sync::mpsc::Sender;

use super::interposer::{HandoverObstacle, Interposer};
use super::kept::KeptSockets;
use crate::bind_options::{BindOptions, OptionUsage};
use crate::error::RunError;
use crate::group_check::GroupCheck;
use crate::plan::RunPlan;
use crate::pool::WorkerSockets;
use crate::report::{Report, Reporter};
use crate::traffic::RunTraffic;
use crate::traffic::listens::OrderedListens;
use answer_thread::AnswerThreads;
use handler::{NotificationHandler, WorkerCalls};
use own_sockets::OwnSockets;

/// The filter of the workers, and the threads that answer them.
#[derive(Debug)]
pub(crate) struct SeccompInterposer {
    filter: FilterInstall,
    machine: Architecture,
    options: BindOptions,
    usage: OptionUsage,
    group_check: GroupCheck,
    owner: Option<u32>,
    kept: KeptSockets,
    listens: Option<OrderedListens>,
    threads: Option<(AnswerThreads, Sender<Report>)>,
}

impl SeccompInterposer {
    pub(super) fn new(plan: &RunPlan, usage: OptionUsage) -> Result<Self, RunError> {
        let keeps_privileges = process::has_cap_sys_admin();
        if !keeps_privileges && !plan.seccomp.give_up_privileges {
            refuse_lost_privileges(plan)?;
        }
        sameport_sys::socket::check_worker_access()
            .map_err(|(call, errno)| RunError::WorkerAccess(call, errno))?;
        sameport_sys::proc::check_ptrace_scope().map_err(RunError::PtraceScope)?;
        let machine =
            Architecture::named(std::env::consts::ARCH).ok_or(RunError::UnknownArchitecture)?;
        let stops = FilterOptions {
            io_uring: plan.seccomp.io_uring,
            connections: plan.bind_options.source.is_some(),
            shutdowns: plan.named.as_ref().is_some_and(|named| named.hold),
            restrictions: binds_for_workers(plan),
        };
        let program = filter::program(machine, stops);
        Ok(Self {
            filter: FilterInstall::new(&program, !keeps_privileges),
            machine,
            options: plan.bind_options.clone(),
            usage,
            group_check: GroupCheck::new(plan),
            owner: plan.owner(),
            kept: KeptSockets::default(),
            listens: ordered_listens(plan),
            threads: None,
        })
    }
}

impl Interposer for SeccompInterposer {
    fn name(&self) -> &'static str {
        "seccomp"
    }

    fn spawn_options(&self, _ordinal: u16) -> SpawnOptions<'_> {
        SpawnOptions {
            filter: Some(&self.filter),
            // Only the supervisor changes owners.
            drop_chown: self.owner.is_some(),
            ..SpawnOptions::default()
        }
    }

    fn start(
        &mut self,
        _pids: &[i32],
        listeners: Vec<NotifyListener>,
        reporter: Reporter,
    ) -> Result<(), RunError> {
        let failed = |error| RunError::System("start answering", error);
        let reports = reporter.sender;
        let threads = AnswerThreads::start(reports.clone(), self.kept.clone()).map_err(failed)?;
        self.threads = Some((threads, reports));
        let mut answer =
            |(listener, ordinal)| self.answer_worker(listener, ordinal, None).map_err(failed);
        listeners.into_iter().zip(1..).try_for_each(&mut answer)
    }

    fn answer_worker(
        &self,
        listener: NotifyListener,
        ordinal: u16,
        held: Option<WorkerSockets>,
    ) -> io::Result<()> {
        let Some((threads, reports)) = &self.threads else { return Ok(()) };
        let handler = NotificationHandler {
            machine: self.machine,
            options: self.options.of_worker(ordinal),
            usage: self.usage.clone(),
            group_check: self.group_check.clone(),
            owner: self.owner,
            reports: reports.clone(),
            kept: self.kept.clone(),
            own_sockets: OwnSockets::default(),
            restricted: Arc::default(),
            held,
            listens: self.listens.clone().map(|listens| (listens, ordinal)),
        };
        threads.add(listener, WorkerCalls::new(handler))
    }

    fn sees_every_bind(&self) -> bool {
        true
    }

    fn stop(&mut self) -> Result<(), HandoverObstacle> {
        let has_ended = self.threads.take().is_none_or(|(threads, _)| threads.stop());
        if has_ended { Ok(()) } else { Err(HandoverObstacle::AnswerBlocked) }
    }

    fn no_more_workers(&mut self) {
        self.threads = None;
    }

    fn kept_sockets(&self) -> KeptSockets {
        self.kept.clone()
    }

    fn ordered_listens(&self) -> Option<OrderedListens> {
        self.listens.clone()
    }
}

/// The groups of a plain run with a policy. The pool of a named run has its own.
fn ordered_listens(plan: &RunPlan) -> Option<OrderedListens> {
    let is_plain = plan.named.is_none();
    let traffic = is_plain.then(|| RunTraffic::of(plan).ok()).flatten()?;
    OrderedListens::of(&traffic)
}

/// Whether the supervisor binds sockets of workers: held datagram sockets, sockets that a map rule moves,
/// connections from a source port.
fn binds_for_workers(plan: &RunPlan) -> bool {
    let options = &plan.bind_options;
    let holds = plan.named.as_ref().is_some_and(|named| named.hold);
    holds || !options.rules.is_empty() || options.source.is_some()
}

/// A program that would silently lack its privileges is not started.
fn refuse_lost_privileges(plan: &RunPlan) -> Result<(), RunError> {
    match plan.locate().and_then(|path| Some((process::file_capability(&path)?, path))) {
        Some((capability, path)) => Err(RunError::LosesPrivilege(path, capability)),
        None => Ok(()),
    }
}
