//! The terminal that somebody reads.

use std::os::fd::AsFd;

/// How many columns and rows the terminal shows; `None` where it is none, or does not say.
#[must_use]
pub fn size(of: impl AsFd) -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(of).ok()?;
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && rows > 0).then_some((columns, rows))
}
