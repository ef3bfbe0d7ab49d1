//! Descriptor tables of threads: most threads share the table of their process, some have their own.

#![expect(unsafe_code, reason = "kcmp(2) has no safe wrapper")]

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::errno::{from_io, last_errno};
use crate::seccomp::permits;
use sameport_policy::sandbox::SandboxedCall;

/// Opens a thread and not its process, Linux 6.9. The kernel defines the flag as O_EXCL.
pub(crate) const PIDFD_THREAD: PidfdFlags =
    PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());

/// Remembers the pidfd of the last thread, so that a thread that makes many calls is opened once.
#[derive(Debug, Default)]
pub struct LastThread(Option<(i32, OwnedFd)>);

impl LastThread {
    /// The pidfd of this thread, if it was the last. It stays right as long as it reaches a thread:
    /// the kernel gives the number to another thread only when the first one is gone.
    pub(crate) fn get(&self, tid: i32) -> Option<&OwnedFd> {
        self.0.as_ref().filter(|(last, _)| *last == tid).map(|(_, pidfd)| pidfd)
    }

    /// Opens this thread and remembers it. `None`: the kernel has no PIDFD_THREAD (< 6.9).
    pub(crate) fn open(&mut self, tid: i32) -> Result<Option<&OwnedFd>, Errno> {
        self.0 = None;
        let Some(pid) = Pid::from_raw(tid) else { return Err(Errno::SRCH) };
        match rustix::process::pidfd_open(pid, PIDFD_THREAD) {
            Ok(pidfd) => Ok(Some(&self.0.insert((tid, pidfd)).1)),
            Err(Errno::INVAL) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

/// Opens a pidfd through which `pidfd_getfd(2)` reaches the thread's own descriptor table. `None`:
/// the thread does not share the table of its process, and the kernel has no PIDFD_THREAD (< 6.9).
///
/// # Errors
///
/// ESRCH, ENOENT: the thread has ended. EMFILE, ENFILE: too many open descriptors.
pub(crate) fn open_thread(tid: i32) -> Result<Option<OwnedFd>, Errno> {
    let Some(pid) = Pid::from_raw(tid) else { return Err(Errno::SRCH) };
    match rustix::process::pidfd_open(pid, PIDFD_THREAD) {
        Ok(pidfd) => return Ok(Some(pidfd)),
        Err(Errno::INVAL) => {}
        Err(errno) => return Err(errno),
    }
    let leader = thread_group(tid)?;
    if leader != tid && !share_fd_table(leader, tid)? {
        return Ok(None);
    }
    let Some(leader) = Pid::from_raw(leader) else { return Err(Errno::SRCH) };
    rustix::process::pidfd_open(leader, PidfdFlags::empty()).map(Some)
}

/// The id of the process that a thread belongs to.
fn thread_group(tid: i32) -> Result<i32, Errno> {
    std::fs::read_to_string(format!("/proc/{tid}/status"))
        .map_err(|error| from_io(&error))?
        .lines()
        .find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
        .ok_or(Errno::SRCH)
}

/// Whether two threads share one descriptor table (`kcmp(2)`, Linux 3.5, `CONFIG_KCMP`). Needs the
/// right to ptrace both.
pub(crate) fn share_fd_table(a: i32, b: i32) -> Result<bool, Errno> {
    const KCMP_FILES: libc::c_int = 2;
    permits(SandboxedCall::Kcmp)?;
    // SAFETY: kcmp(2) with KCMP_FILES takes two thread ids by value and no pointer.
    match unsafe { libc::syscall(libc::SYS_kcmp, a, b, KCMP_FILES, 0, 0) } {
        0 => Ok(true),
        1.. => Ok(false),
        _ => Err(last_errno()),
    }
}
