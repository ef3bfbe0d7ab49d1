//! Duplicates of descriptors of other processes.

use std::os::fd::{AsFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::PidfdGetfdFlags;
use sameport_policy::sandbox::SandboxedCall;

use crate::seccomp::permits;

/// Duplicates descriptor `number` of the process of this pidfd (`pidfd_getfd(2)`, Linux 5.6).
///
/// # Errors
///
/// EBADF: not open. EPERM: no right to ptrace the process, or a filter refuses the call, also one that
/// kills. ENOSYS: an older kernel, or a filter. ESRCH: the process has ended. EMFILE, ENFILE.
pub(crate) fn duplicate_from(pidfd: impl AsFd, number: RawFd) -> Result<OwnedFd, Errno> {
    if number < 0 {
        // rustix panics for a negative descriptor in debug builds.
        return Err(Errno::BADF);
    }
    permits(SandboxedCall::PidfdGetfd)?;
    rustix::process::pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())
}
