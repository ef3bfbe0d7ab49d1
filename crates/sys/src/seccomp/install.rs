//! Putting the filter on the calling thread, between `fork` and `exec`.

#![expect(unsafe_code, reason = "seccomp(2) has no safe wrapper that returns a listener")]

use std::os::fd::{FromRawFd as _, OwnedFd};

use rustix::io::Errno;
use sameport_policy::classic_bpf::Instruction;

use crate::errno::last_errno;

/// What to put on a worker. Made before `fork`, because nothing may be allocated after it.
#[derive(Debug, Clone)]
pub struct FilterInstall {
    program: Vec<libc::sock_filter>,
    no_new_privs: bool,
}

/// Which call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallStage {
    /// `prctl(PR_SET_NO_NEW_PRIVS)`.
    NoNewPrivs,
    /// `seccomp(SECCOMP_SET_MODE_FILTER)`. EBUSY: a listener is already installed, and there can
    /// be one for a process and all its children. EINVAL: no user notification (Linux < 5.0).
    Filter,
}

impl FilterInstall {
    /// `no_new_privs` is needed without CAP_SYS_ADMIN, and takes from set-user-ID programs and
    /// file capabilities their effect.
    #[must_use]
    pub fn new(program: &[Instruction], no_new_privs: bool) -> Self {
        let program = program
            .iter()
            .map(|i| libc::sock_filter { code: i.code, jt: i.if_true, jf: i.if_false, k: i.k })
            .collect();
        Self { program, no_new_privs }
    }
}

/// Puts the filter on this thread and everything it will start; gives the one listener for it,
/// which is closed on exec.
///
/// Async-signal-safe: system calls only, so it may run between `fork` and `exec`.
///
/// Minimum kernel 5.0; 5.19 for `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, without which a signal
/// can interrupt a bind that is being looked at. With it, still one that has not been received yet
/// (microseconds): the call starts over, or without SA_RESTART the program sees EINTR, and the
/// next try does what the first would have done.
pub fn install(installation: &FilterInstall) -> Result<OwnedFd, (InstallStage, Errno)> {
    if installation.no_new_privs {
        rustix::thread::set_no_new_privs(true)
            .map_err(|errno| (InstallStage::NoNewPrivs, errno))?;
    }
    let uninterrupted = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    set_filter(&installation.program, uninterrupted)
        .or_else(|errno| match errno {
            Errno::INVAL => set_filter(&installation.program, 0),
            other => Err(other),
        })
        .map_err(|errno| (InstallStage::Filter, errno))
}

fn set_filter(program: &[libc::sock_filter], flags: libc::c_ulong) -> Result<OwnedFd, Errno> {
    // The kernel refuses a program of more than 4096 instructions, so a saturated length is
    // refused as well.
    let len = u16::try_from(program.len()).unwrap_or(u16::MAX);
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` describes `len` instructions of a live slice, which the kernel copies and
    // does not write; the flags ask for a new descriptor and nothing else.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    match i32::try_from(fd) {
        // SAFETY: seccomp(2) with NEW_LISTENER returns a descriptor that nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(last_errno()),
    }
}
