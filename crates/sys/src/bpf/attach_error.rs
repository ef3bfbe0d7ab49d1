//! Errors of loading and attaching programs.

use std::error::Error;
use std::io;

use sameport_policy::sandbox::SandboxedCall;

use crate::seccomp::permits;

/// Why programs are not attached to a cgroup. After an error none of them is.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The user lacks CAP_BPF, CAP_NET_ADMIN or CAP_PERFMON.
    #[error("{0}: {1}")]
    NotPermitted(&'static str, io::Error),
    /// The kernel does not support these programs or rejects them. The text is the kernel's.
    #[error("{0}")]
    Kernel(String),
    /// The kernel is locked down, and the programs read its memory.
    #[error("the kernel is locked down (lockdown=confidentiality)")]
    LockedDown,
    /// A program attached without BPF_F_ALLOW_MULTI, at this cgroup or above it, excludes others.
    #[error("another program is attached there exclusively")]
    Exclusive,
    /// Another system call failed.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

impl AttachError {
    /// Fails where a filter would end this process at the first `bpf(2)` of aya.
    pub(crate) fn check_filter() -> Result<(), Self> {
        let refused = |errno: rustix::io::Errno| Self::NotPermitted("bpf", errno.into());
        permits(SandboxedCall::Bpf).map_err(refused)
    }

    /// An error of aya while loading.
    pub(crate) fn loading(error: &(dyn Error + 'static)) -> Self {
        match os_error(error) {
            Some(why) if is_permission(&why) => Self::NotPermitted("bpf(BPF_PROG_LOAD)", why),
            Some(why) if why.raw_os_error() == Some(libc::ENOSYS) => {
                Self::Kernel(format!("bpf: {why}"))
            }
            Some(why) => Self::Kernel(format!("bpf(BPF_PROG_LOAD): {why}")),
            None => Self::Kernel(error.to_string()),
        }
    }

    /// An error of aya while attaching. The process was permitted to load the programs, so EPERM means
    /// that another program excludes them.
    pub(crate) fn attaching(error: &(dyn Error + 'static)) -> Self {
        match os_error(error) {
            Some(why) if why.raw_os_error() == Some(libc::EPERM) => Self::Exclusive,
            _ => Self::system("bpf(BPF_LINK_CREATE)", error),
        }
    }

    /// An error of aya in another call.
    pub(crate) fn system(call: &'static str, error: &(dyn Error + 'static)) -> Self {
        match os_error(error) {
            Some(why) if is_permission(&why) => Self::NotPermitted(call, why),
            Some(why) => Self::System(call, why),
            None => Self::System(call, io::Error::other(error.to_string())),
        }
    }
}

fn is_permission(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

/// The operating system's error among the causes of an error of aya.
pub(crate) fn os_error(error: &(dyn Error + 'static)) -> Option<io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(why) = error.downcast_ref::<io::Error>() {
            return why.raw_os_error().map(io::Error::from_raw_os_error);
        }
        next = error.source();
    }
    None
}
