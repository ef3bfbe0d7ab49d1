//! Installing a filter on the calling thread, between `fork` and `exec`.

#![expect(unsafe_code, reason = "seccomp(2) has no safe wrapper that returns a listener")]

use std::os::fd::{FromRawFd as _, OwnedFd};

use rustix::io::Errno;
use sameport_policy::classic_bpf::Instruction;

use crate::errno::last_errno;

/// A filter to install. Built before `fork`, after which no allocation is allowed.
#[derive(Debug, Clone)]
pub struct FilterInstall {
    program: Vec<libc::sock_filter>,
    no_new_privs: bool,
}

/// The call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallStage {
    /// `prctl(PR_SET_NO_NEW_PRIVS)`.
    NoNewPrivs,
    /// `seccomp(SECCOMP_SET_MODE_FILTER)`. EBUSY: a filter with a listener is already installed, and the
    /// kernel allows one. EINVAL: no user notification (Linux < 5.0).
    Filter,
}

impl FilterInstall {
    /// Builds a filter. Without CAP_SYS_ADMIN, `no_new_privs` must be set; it disables set-user-ID
    /// programs and file capabilities.
    #[must_use]
    pub fn new(program: &[Instruction], no_new_privs: bool) -> Self {
        let program = program
            .iter()
            .map(|i| libc::sock_filter { code: i.code, jt: i.if_true, jf: i.if_false, k: i.k })
            .collect();
        Self { program, no_new_privs }
    }
}

/// Installs the filter on the calling thread, and so on its descendants. Returns the listener, which
/// has FD_CLOEXEC. Async-signal-safe: for use between `fork` and `exec`.
///
/// Linux 5.0. With `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (Linux 5.19), a signal cannot interrupt a
/// call whose notification has been received. A signal before that restarts the call, or without
/// SA_RESTART the program gets EINTR.
///
/// # Errors
///
/// The call that failed, with its error: see [`InstallStage`].
pub fn install(installation: &FilterInstall) -> Result<OwnedFd, (InstallStage, Errno)> {
    if installation.no_new_privs {
        rustix::thread::set_no_new_privs(true)
            .map_err(|errno| (InstallStage::NoNewPrivs, errno))?;
    }
    let wait_killable = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    set_filter(&installation.program, wait_killable)
        .or_else(|errno| match errno {
            Errno::INVAL => set_filter(&installation.program, 0),
            other => Err(other),
        })
        .map_err(|errno| (InstallStage::Filter, errno))
}

fn set_filter(program: &[libc::sock_filter], flags: libc::c_ulong) -> Result<OwnedFd, Errno> {
    // The kernel refuses more than 4,096 instructions, and so a saturated length.
    let len = u16::try_from(program.len()).unwrap_or(u16::MAX);
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` describes `len` instructions of a live slice, which the kernel only reads.
    // The call returns a new descriptor and writes no memory.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    match i32::try_from(fd) {
        // SAFETY: seccomp(2) has just opened the descriptor, and nothing else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(last_errno()),
    }
}
