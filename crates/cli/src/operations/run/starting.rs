//! From nothing to workers that run and are attended to; or back to nothing.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use sameport_linux::inherited;
use sameport_linux::signals::Signals;
use sameport_linux::worker;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::interposer::{Beside, Interposer};
use super::leftovers::{SIGKILL, everybody};
use super::supervisor::{News, Supervisor};
use super::{Error, Event, Plan};

/// Workers that run.
pub(super) struct Started {
    interposer: Interposer,
    /// First processes, with the worker's ordinal.
    running: BTreeMap<i32, u16>,
    beside: Beside,
    news: mpsc::Receiver<News>,
    runtime: Runtime,
    signals: AsyncFd<Signals>,
}

/// Starts the workers. On failure, those before it have been ended.
pub(super) fn start(plan: &Plan, mut interposer: Interposer) -> Result<Started, Error> {
    let signals = Signals::block().map_err(|error| Error::System("signalfd", error))?;
    worker::adopt_orphans().map_err(|errno| Error::System("prctl", errno.into()))?;
    inherited::raise_descriptor_limit();

    let mut running = BTreeMap::new();
    let mut listeners = Vec::new();
    for ordinal in 1..=plan.copies {
        match worker::start(&plan.command, &interposer.setting()) {
            Ok(started) => {
                running.insert(started.pid, ordinal);
                listeners.extend(started.listener);
            }
            Err(error) => {
                end_at_once(&running);
                return Err(Error::Start(error));
            }
        }
    }
    // In a storm of binds, reports that find this full are lost. Answers are not.
    let (sender, news) = mpsc::channel(256);
    let beside = Beside::new(sender);
    let attended = interposer.attend(running.keys().copied().collect(), listeners, beside.clone());
    match attended.and_then(|()| watch(signals).map_err(|error| Error::System("epoll", error))) {
        Ok((runtime, signals)) => {
            Ok(Started { interposer, running, beside, news, runtime, signals })
        }
        Err(error) => {
            beside.end();
            end_at_once(&running);
            Err(error)
        }
    }
}

fn watch(signals: Signals) -> io::Result<(Runtime, AsyncFd<Signals>)> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let context = runtime.enter();
    let signals = signals.watched()?;
    drop(context);
    Ok((runtime, signals))
}

/// Ends workers that have only just been started, because not all could be, and what they started.
fn end_at_once(running: &BTreeMap<i32, u16>) {
    const PATIENCE: Duration = Duration::from_secs(5);
    let until = Instant::now() + PATIENCE;
    // The workers first: looking for others takes a descriptor, which there may not be.
    let mut doomed: Vec<i32> = running.keys().copied().collect();
    loop {
        for pid in doomed {
            // They are ours and not reaped, so the number is theirs; a failure leaves nothing to be
            // done.
            let _ = worker::signal(pid, SIGKILL);
        }
        if !matches!(worker::reap(), Ok((_, true))) || Instant::now() > until {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
        doomed = everybody();
    }
}

impl Started {
    /// Stays with the workers until every process has ended, and gives the exit code.
    pub(super) fn supervise(self, tell: &mut dyn FnMut(Event)) -> Result<u8, Error> {
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
