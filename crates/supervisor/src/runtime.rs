//! Signals, the tokio runtime, and the end of workers whose run could not start.

use std::io;
use std::time::{Duration, Instant};

use sameport_sys::process;
use sameport_sys::process::signals::SignalFd;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;

use crate::termination::{SIGKILL, SIGTERM, descendants};

/// SIGINT, SIGQUIT and SIGTERM: signals that ask a program to end.
pub(crate) const STOPPING: [i32; 3] = [2, 3, SIGTERM];

/// Builds the supervisor's runtime and registers the signal descriptor with it.
pub(crate) fn watch(signals: SignalFd) -> io::Result<(Runtime, AsyncFd<SignalFd>)> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let context = runtime.enter();
    let signals = signals.into_async()?;
    drop(context);
    Ok((runtime, signals))
}

/// Ends workers, and their descendants, after a later worker failed to start.
pub(crate) fn end_at_once(running: impl IntoIterator<Item = i32>) {
    const TIME_LIMIT: Duration = Duration::from_secs(5);
    let until = Instant::now() + TIME_LIMIT;
    // The workers first: listing descendants takes a descriptor, and the limit may be reached.
    let mut pids: Vec<i32> = running.into_iter().collect();
    loop {
        for pid in pids {
            // An unreaped child keeps its pid, so the signal cannot hit another process.
            let _ = process::signal(pid, SIGKILL);
        }
        if !matches!(process::reap(), Ok((_, true))) || Instant::now() > until {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
        pids = descendants();
    }
}

/// A moment that does not come: for a timer that is not set.
pub(crate) fn far_future() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(3600)
}
