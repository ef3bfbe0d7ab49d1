//! The terminal: its size, its modes, and the signals of a program that takes the whole screen.

mod raw_mode;
mod signals;

use std::os::fd::AsFd;

pub use raw_mode::RawMode;
pub use signals::{TerminalSignal, TerminalSignals};

/// The columns and rows of a terminal (`TIOCGWINSZ`, `ioctl_tty(2)`). `None` if the descriptor is not
/// a terminal or the terminal has no size.
#[must_use]
pub fn size(fd: impl AsFd) -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(fd).ok()?;
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && rows > 0).then_some((columns, rows))
}

/// Reads bytes that were typed. An empty result is the end: the terminal is gone.
///
/// # Errors
///
/// Errors of `read(2)`: EIO if the terminal is gone. EINTR is retried.
pub fn read_keys(terminal: impl AsFd) -> std::io::Result<Vec<u8>> {
    let mut bytes = [0; 256];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(terminal.as_fd(), &mut bytes))?;
    Ok(bytes[..length].to_vec())
}
