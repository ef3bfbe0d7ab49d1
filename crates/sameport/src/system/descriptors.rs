//! Descriptors that were open when this process began.

// Reason: no safe function makes an owner of a descriptor that is known by its number.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use socket2::Socket;

/// Takes `count` descriptors from `first` up, and makes them close-on-exec; all or none.
///
/// # Errors
///
/// The number of a descriptor, and the reason: [`io::ErrorKind::AlreadyExists`] if it is close-on-exec.
pub(super) fn take(first: RawFd, count: usize) -> Result<Vec<Socket>, (RawFd, io::Error)> {
    let numbers: Vec<RawFd> = (first..).take(count).collect();
    for &number in &numbers {
        // The kernel closes such a descriptor in execve(2), so this process itself opened it, and
        // it may have an owner.
        if flags(number).map_err(|os| (number, os))? & libc::FD_CLOEXEC != 0 {
            return Err((number, io::ErrorKind::AlreadyExists.into()));
        }
    }
    for &number in &numbers {
        close_on_exec(number).map_err(|os| (number, os))?;
    }
    // SAFETY: the descriptor is open, and was passed over execve(2), because it was not
    // close-on-exec: everything that Rust opens is. The caller is the process that it was passed
    // to, and takes each descriptor once, so that nothing else owns it.
    let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
    Ok(numbers.into_iter().map(|number| Socket::from(own(number))).collect())
}

fn flags(number: RawFd) -> io::Result<libc::c_int> {
    // SAFETY: the call reads a flag of a descriptor, by number; it touches no memory.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags == -1 { Err(io::Error::last_os_error()) } else { Ok(flags) }
}

fn close_on_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: the call sets a flag of a descriptor, by number; it touches no memory.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
