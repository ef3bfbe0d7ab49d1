//! The cgroup interposer: eBPF programs that change the binds, and the source addresses, of every
//! process in a cgroup.
//!
//! The kernel runs them inside the caller's own `bind` and `connect`, so any program is reached:
//! static, already running, of any user, through io_uring; and nothing waits for an answer. A socket
//! belongs to the cgroup that it was *created* in, for good.
//!
//! Needs Linux 5.18 (`bpf_set_retval`), cgroup v2 and CAP_BPF with CAP_NET_ADMIN. Sources:
//! kernel/bpf/cgroup.c, net/core/filter.c.

pub(crate) mod attached;
mod attachment;
pub(crate) mod calls;
mod events;
mod layout;
pub(crate) mod object;
pub(crate) mod pins;
#[cfg(test)]
mod tests;

pub(crate) use crate::cgroup::dir::MOST;
pub(crate) use crate::cgroup::mounts::Mount;

pub use crate::cgroup::dir::{Cgroup, CgroupError};
pub use crate::cgroup::private::{PrivateCgroup, sweep};
pub use attached::{AttachedPrograms, cgroups_in_effect, list_attached};
pub use attachment::{AttachError, AttachSettings, Attachment, SourceOutcome, attach};
pub use events::{BindAction, BindEvent, BindEvents};
pub use pins::{
    PinError, RemovedPins, clear_leftovers, detach, detach_all, detach_recorded, is_attached,
};

/// The cookie of the network namespace that this thread is in, for [`Settings::network`].
///
/// # Errors
///
/// ENOPROTOOPT before Linux 5.14.
pub fn own_network() -> std::io::Result<u64> {
    calls::own_network()
}
