//! Errors of the guards.

use crate::bpf::attach_error::AttachError;
use crate::bpf::pin_dir::PinError;
use crate::cgroup::CgroupError;

/// Why the guards could not be enforced. After an error the previous guards are in force.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// There is no root cgroup to attach to.
    #[error(transparent)]
    Open(#[from] CgroupError),
    /// The programs could not be loaded or attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The programs could not be pinned, read or removed.
    #[error(transparent)]
    Pin(#[from] PinError),
}
