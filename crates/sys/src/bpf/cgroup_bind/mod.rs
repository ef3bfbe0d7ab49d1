//! The cgroup interposer: eBPF programs that change the binds and source addresses of every process in
//! a cgroup.
//!
//! The kernel runs the programs inside the caller's own `bind` and `connect`. They reach static
//! binaries, running processes, every user and io_uring, without a round trip to another process. A
//! socket belongs to the cgroup in which it was created, for its whole life.
//!
//! Needs Linux 5.18 (`bpf_set_retval`), cgroup v2, and CAP_BPF with CAP_NET_ADMIN. Sources:
//! kernel/bpf/cgroup.c, net/core/filter.c.

mod attached;
mod attachment;
mod events;
mod layout;
mod object;
mod pins;
mod settings;
#[cfg(test)]
mod tests;

pub use attached::{AttachedPrograms, cgroups_in_effect, list_attached};
pub use attachment::{Attachment, attach};
pub use events::{BindAction, BindEvent, BindEvents};
pub use pins::{RemovedPins, clear_leftovers, detach, detach_all, detach_recorded, is_attached};
pub use settings::{AttachSettings, SourceOutcome};
