//! eBPF programs and maps.

pub mod cgroup_bind;
pub mod guard;
pub(crate) mod sk_lookup;
pub(crate) mod socket_iter;
