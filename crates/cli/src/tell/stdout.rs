//! Writing results to standard output.

use std::io::{self, Write as _};

use super::failure::{Failure, Kind};

/// Writes and flushes. A reader that has gone (`| head`) has what it wanted: that is no failure.
///
/// # Errors
///
/// When the text could not be written for another reason, such as a full disk.
pub(crate) fn write(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Kind::CouldNotBeDone, format!("write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}
