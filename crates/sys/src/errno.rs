//! The calling thread's error number, after a system call that has no safe wrapper.

use std::io;

use rustix::io::Errno;

/// The error of the system call that failed last on this thread (`errno(3)`). Async-signal-safe.
pub(crate) fn last_errno() -> Errno {
    from_io(&io::Error::last_os_error())
}

/// The error number of an error of the standard library; EIO if it carries none.
pub(crate) fn from_io(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
