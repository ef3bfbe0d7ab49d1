//! From nothing to workers that run and are attended to; or back to nothing.

use std::collections::BTreeMap;

use sameport_sys::process;
use sameport_sys::process::signals::SignalFd;
use sameport_sys::process::startup;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::error::RunError;
use crate::event::RunEvent;
use crate::interpose::Interposer;
use crate::named;
use crate::plain::PlainSupervisor;
use crate::plan::RunPlan;
use crate::pool::inherited::InheritedSocket;
use crate::report::{REPORT_QUEUE, Report, Reporter};
use crate::runtime::{end_at_once, watch};

/// Workers that run, one way or the other.
pub(crate) enum StartedRun<'a> {
    Once(Box<PlainRun>),
    Named(Box<named::StartedNamed<'a>>),
}

impl<'a> StartedRun<'a> {
    /// Starts the workers. On failure, those before it have been ended.
    pub(crate) fn start(
        plan: &'a RunPlan,
        interposer: Box<dyn Interposer>,
        given: &mut Vec<InheritedSocket>,
    ) -> Result<Self, RunError> {
        match &plan.named {
            None => start(plan, interposer).map(Box::new).map(Self::Once),
            Some(named) => {
                named::start(plan, named, interposer, given).map(Box::new).map(Self::Named)
            }
        }
    }

    /// Stays with the workers until all is over, and gives the exit code.
    pub(crate) fn supervise(self, tell: &mut dyn FnMut(RunEvent)) -> Result<u8, RunError> {
        match self {
            Self::Once(once) => once.supervise(tell),
            Self::Named(named) => named.supervise(tell),
        }
    }
}

/// Workers that run once.
pub(crate) struct PlainRun {
    interposer: Box<dyn Interposer>,
    /// First processes, with the worker's ordinal.
    running: BTreeMap<i32, u16>,
    beside: Reporter,
    news: mpsc::Receiver<Report>,
    runtime: Runtime,
    signals: AsyncFd<SignalFd>,
}

fn start(plan: &RunPlan, mut interposer: Box<dyn Interposer>) -> Result<PlainRun, RunError> {
    let signals = SignalFd::block().map_err(|error| RunError::System("signalfd", error))?;
    process::adopt_orphans().map_err(|errno| RunError::System("prctl", errno.into()))?;
    startup::raise_descriptor_limit();

    let mut running = BTreeMap::new();
    let mut listeners = Vec::new();
    for ordinal in 1..=plan.copies {
        match process::spawn(&plan.command, &interposer.spawn_options()) {
            Ok(started) => {
                running.insert(started.pid, ordinal);
                listeners.extend(started.listener);
            }
            Err(error) => {
                end_at_once(running.into_keys());
                return Err(RunError::Start(error));
            }
        }
    }
    let (sender, news) = mpsc::channel(REPORT_QUEUE);
    let beside = Reporter::new(sender);
    let pids: Vec<i32> = running.keys().copied().collect();
    let attended = interposer.start(&pids, listeners, beside.clone());
    interposer.no_more_workers();
    match attended.and_then(|()| watch(signals).map_err(|error| RunError::System("epoll", error))) {
        Ok((runtime, signals)) => {
            Ok(PlainRun { interposer, running, beside, news, runtime, signals })
        }
        Err(error) => {
            beside.end();
            end_at_once(running.into_keys());
            Err(error)
        }
    }
}

impl PlainRun {
    /// Stays with the workers until every process has ended, and gives the exit code.
    fn supervise(self, tell: &mut dyn FnMut(RunEvent)) -> Result<u8, RunError> {
        let Self { interposer, running, beside, news, runtime, signals } = self;
        let supervisor = PlainSupervisor::new(running, beside, interposer.kept_sockets(), tell);
        let code = runtime.block_on(supervisor.serve(&signals, news));
        // A look that is still under way is of no use any more.
        drop(signals);
        runtime.shutdown_background();
        interposer.finish();
        code.map_err(|error| RunError::System("supervise", error))
    }
}
