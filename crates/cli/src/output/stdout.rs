//! Writing results to standard output.

use std::io::{self, Write as _};
use std::time::Duration;

use crate::error::{Failure, stdout_failure};

/// Writes and flushes. A reader that has gone (`| head`) has what it wanted: that is no failure.
///
/// # Errors
///
/// When the text could not be written for another reason, such as a full disk.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    outcome(line(text))
}

/// What becomes of the command when its result was written like this, or was not.
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

/// Writes and flushes, for callers that go on only while somebody reads.
///
/// # Errors
///
/// Those of the system, a closed pipe included.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Waits this long, or until nobody reads any more. Whether that is so.
pub(crate) fn is_unread(within: Duration) -> bool {
    #[cfg(target_os = "linux")]
    return sameport_sys::fd::poll::wait_hangup(io::stdout(), within);
    #[cfg(not(target_os = "linux"))]
    {
        std::thread::sleep(within);
        false
    }
}

/// For bytes that are written as they come; see [`outcome`].
pub(crate) fn raw() -> impl io::Write {
    io::stdout()
}

/// Refuses to start a command whose result nobody could ever see. (Rust's runtime opens
/// `/dev/null` on a closed stdout, so that writing to it seems to work.)
pub(crate) fn require() -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    if sameport_sys::process::startup::was_closed(1) {
        return Err(Failure::usage("stdout is closed").hint("open it, or write to /dev/null"));
    }
    Ok(())
}
