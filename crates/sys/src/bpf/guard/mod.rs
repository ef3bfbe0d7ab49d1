//! Guards: programs at the first cgroup that refuse binds of ports.
//!
//! All guards of the machine are in one set: programs, and maps filled from the list of guards. The set
//! is never changed: a new one is attached beside it, and then it is removed. Two sets both have to
//! allow a bind, so there is no moment without a guard, whatever changes, sameport's version included.
//! `pins` keeps a set after its maker has ended, `record` the list of guards after the machine has
//! stopped, `reserved` keeps the kernel from picking guarded ports, `binder` finds what rules are
//! compared with, `refused` tells what the programs have done.
//!
//! Needs Linux 5.14 (`SO_NETNS_COOKIE`; `doctor` and the documentation name the kernel of `attach`) with type information (CONFIG_DEBUG_INFO_BTF), cgroup v2, and
//! CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON. Sources: kernel/bpf/cgroup.c, net/ipv4/af_inet.c
//! (`__inet_bind`), kernel/trace/bpf_trace.c.

mod binder;
mod denials;
mod error;
mod layout;
mod object;
mod pins;
mod record;
mod reserved_ports;
#[cfg(test)]
mod tests;

pub use binder::{binder, inode, unit};
pub use denials::{GuardDenial, list_denials};
pub use error::GuardError;
pub use object::is_refused_by_lockdown;
pub use pins::{InForce, enforce, in_force, lift};
pub use record::{GuardLock, PLACE, boot_id, is_initial_netns};
pub(crate) use reserved_ports::text as reserved_text;
pub use reserved_ports::{reserve, reserved};
