//! The size of the terminal.

use std::os::fd::AsFd;

/// The columns and rows of a terminal (`TIOCGWINSZ`, `ioctl_tty(2)`). `None` if the descriptor is not
/// a terminal or the terminal has no size.
#[must_use]
pub fn size(fd: impl AsFd) -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(fd).ok()?;
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && rows > 0).then_some((columns, rows))
}
