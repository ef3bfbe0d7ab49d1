//! From nothing to workers that run and are attended to; or back to nothing.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use sameport_sys::process;
use sameport_sys::process::signals::Signals;
use sameport_sys::process::startup;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::interpose::seccomp::pending::MOST;
use super::interpose::{Beside, Interposer};
use super::monitor::News;
use super::named;
use super::plain::Supervisor;
use super::termination::{SIGKILL, everybody};
use super::{Error, Event, Plan};

/// Workers that run, one way or the other.
pub(crate) enum Started<'a> {
    Once(Box<Once>),
    Named(Box<named::Started<'a>>),
}

impl<'a> Started<'a> {
    /// Starts the workers. On failure, those before it have been ended.
    pub(crate) fn start(
        plan: &'a Plan,
        interposer: Interposer,
        given: &mut Vec<named::Given>,
    ) -> Result<Self, Error> {
        match &plan.named {
            None => start(plan, interposer).map(Box::new).map(Self::Once),
            Some(named) => {
                named::start(plan, named, interposer, given).map(Box::new).map(Self::Named)
            }
        }
    }

    /// Stays with the workers until all is over, and gives the exit code.
    pub(crate) fn supervise(self, tell: &mut dyn FnMut(Event)) -> Result<u8, Error> {
        match self {
            Self::Once(once) => once.supervise(tell),
            Self::Named(named) => named.supervise(tell),
        }
    }
}

/// Workers that run once.
pub(crate) struct Once {
    interposer: Interposer,
    /// First processes, with the worker's ordinal.
    running: BTreeMap<i32, u16>,
    beside: Beside,
    news: mpsc::Receiver<News>,
    runtime: Runtime,
    signals: AsyncFd<Signals>,
}

/// How many reports may wait. In a storm of binds, those that find it full are lost and counted;
/// answers are not.
pub(crate) const NEWS: usize = MOST;

fn start(plan: &Plan, mut interposer: Interposer) -> Result<Once, Error> {
    let signals = Signals::block().map_err(|error| Error::System("signalfd", error))?;
    process::adopt_orphans().map_err(|errno| Error::System("prctl", errno.into()))?;
    startup::raise_descriptor_limit();

    let mut running = BTreeMap::new();
    let mut listeners = Vec::new();
    for ordinal in 1..=plan.copies {
        match process::start(&plan.command, &interposer.setting()) {
            Ok(started) => {
                running.insert(started.pid, ordinal);
                listeners.extend(started.listener);
            }
            Err(error) => {
                end_at_once(running.into_keys());
                return Err(Error::Start(error));
            }
        }
    }
    let (sender, news) = mpsc::channel(NEWS);
    let beside = Beside::new(sender);
    let attended = interposer.attend(running.keys().copied().collect(), listeners, beside.clone());
    interposer.no_more();
    match attended.and_then(|()| watch(signals).map_err(|error| Error::System("epoll", error))) {
        Ok((runtime, signals)) => Ok(Once { interposer, running, beside, news, runtime, signals }),
        Err(error) => {
            beside.end();
            end_at_once(running.into_keys());
            Err(error)
        }
    }
}

pub(crate) fn watch(signals: Signals) -> io::Result<(Runtime, AsyncFd<Signals>)> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let context = runtime.enter();
    let signals = signals.watched()?;
    drop(context);
    Ok((runtime, signals))
}

/// Ends workers that have only just been started, because not all could be, and what they started.
pub(crate) fn end_at_once(running: impl IntoIterator<Item = i32>) {
    const PATIENCE: Duration = Duration::from_secs(5);
    let until = Instant::now() + PATIENCE;
    // The workers first: looking for others takes a descriptor, which there may not be.
    let mut doomed: Vec<i32> = running.into_iter().collect();
    loop {
        for pid in doomed {
            // They are ours and not reaped, so the number is theirs; a failure leaves nothing to be
            // done.
            let _ = process::signal(pid, SIGKILL);
        }
        if !matches!(process::reap(), Ok((_, true))) || Instant::now() > until {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
        doomed = everybody();
    }
}

impl Once {
    /// Stays with the workers until every process has ended, and gives the exit code.
    fn supervise(self, tell: &mut dyn FnMut(Event)) -> Result<u8, Error> {
        let Self { interposer, running, beside, news, runtime, signals } = self;
        let supervisor = Supervisor::new(running, beside, interposer.bound(), tell);
        let code = runtime.block_on(supervisor.serve(&signals, news));
        // A look that is still under way is of no use any more.
        drop(signals);
        runtime.shutdown_background();
        interposer.finish();
        code.map_err(|error| Error::System("supervise", error))
    }
}
