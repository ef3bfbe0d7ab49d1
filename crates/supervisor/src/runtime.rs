//! Signals, the tokio runtime, and the end of workers whose run could not start.

use std::io;
use std::time::{Duration, Instant};

use sameport_sys::process;
use sameport_sys::process::signals::SignalFd;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;

use crate::termination::{SIGKILL, SIGTERM, everybody};

/// SIGINT, SIGQUIT and SIGTERM: signals that ask a program to end.
pub(crate) const STOPPING: [i32; 3] = [2, 3, SIGTERM];

pub(crate) fn watch(signals: SignalFd) -> io::Result<(Runtime, AsyncFd<SignalFd>)> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let context = runtime.enter();
    let signals = signals.into_async()?;
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

pub(crate) fn far_future() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(3600)
}
