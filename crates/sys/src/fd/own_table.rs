//! A descriptor table of one thread and the threads that it starts.
//!
//! `fork(2)` copies the descriptor table of the calling thread, and the `exec` of the child closes the copies. If
//! one of them is a file of another process whose close blocks (`super::foreign`), the child does not
//! execute its program, and the parent, which waits for that, is blocked too. A thread that receives
//! descriptors from other processes therefore has a table that no `fork` of the other threads copies.

#![expect(unsafe_code, reason = "close_range(2) has no safe wrapper")]

use std::os::fd::RawFd;

use rustix::io::Errno;
use sameport_policy::sandbox::SandboxedCall;

use super::foreign;
use crate::errno::last_errno;
use crate::seccomp::permits;

/// Gives this thread a table with the standard streams and these descriptors only. The table of the other
/// threads does not change. A [`super::ForeignFd`] of this thread must be dropped by it.
///
/// `close_range(2)` with CLOSE_RANGE_UNSHARE, Linux 5.9, no privilege.
///
/// # Errors
///
/// ENOSYS: an earlier kernel. EPERM: a filter refuses the call. ENOMEM. The thread then shares the table as
/// before.
pub(crate) fn leave_shared(kept: &[RawFd]) -> Result<(), Errno> {
    permits(SandboxedCall::CloseRange)?;
    let mut kept: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    kept.sort_unstable();
    // The first call leaves the table. The others find nothing that they could fail at.
    let mut next = libc::STDERR_FILENO.cast_unsigned() + 1;
    close(u32::MAX, u32::MAX)?;
    foreign::close_on_own_threads();
    for fd in kept {
        if fd > next {
            close(next, fd - 1)?;
        }
        next = next.max(fd + 1);
    }
    close(next, u32::MAX)
}

/// Closes the descriptors from `first` to `last` in a table of this thread alone.
fn close(first: u32, last: u32) -> Result<(), Errno> {
    let flags = libc::CLOSE_RANGE_UNSHARE;
    // SAFETY: the call takes three numbers. It closes descriptors in a table that this thread alone has:
    // the values that own them belong to other threads, in whose table they stay open.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn other_threads_keep_their_descriptors() {
        let (kept, closed) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        let (keep, other) = (kept.0.as_raw_fd(), closed.0.as_raw_fd());
        let open =
            move |fd: RawFd| std::path::Path::new(&format!("/proc/thread-self/fd/{fd}")).exists();
        let of_thread = std::thread::spawn(move || {
            leave_shared(&[keep]).map(|()| (open(keep), open(other), open(2)))
        });
        assert_eq!(of_thread.join().unwrap(), Ok((true, false, true)));
        assert!(open(keep) && open(other));
        drop((kept, closed));
    }
}
