//! Writing results to standard output.

use std::io::{self, Write as _};
use std::time::Duration;

use crate::error::{Failure, stdout_failure};

/// Writes and flushes. A closed pipe is no failure: its reader (`| head`) has read enough.
///
/// # Errors
///
/// When the text could not be written for another reason, such as a full disk.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    outcome(line(text))
}

/// The result of a verb after its output was written, or was not.
///
/// # Errors
///
/// As for [`write`].
pub(crate) fn outcome(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(stdout_failure(&error)),
        _ => Ok(()),
    }
}

/// Writes and flushes, for callers that stop when the reader has gone.
///
/// # Errors
///
/// Those of write(2), also for a closed pipe.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Waits this long or until the reader has gone, and returns whether it has.
pub(crate) fn is_unread(within: Duration) -> bool {
    #[cfg(target_os = "linux")]
    return sameport_sys::fd::poll::wait_hangup(io::stdout(), within);
    #[cfg(not(target_os = "linux"))]
    {
        std::thread::sleep(within);
        false
    }
}

/// For callers that write bytes; see [`outcome`].
pub(crate) fn raw() -> impl io::Write {
    io::stdout()
}

/// Refuses to start with a closed stdout. (Rust's runtime opens `/dev/null` in its place, so that writing
/// would succeed.)
pub(crate) fn require() -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    if sameport_sys::process::startup::was_closed(1) {
        return Err(Failure::usage("stdout is closed").hint("open it, or write to /dev/null"));
    }
    Ok(())
}
