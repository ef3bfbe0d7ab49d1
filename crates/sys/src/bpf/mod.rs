//! eBPF programs and maps.
//!
//! Every direct call of bpf(2) is in `syscall`, `sized_map` and `object_calls`. Three mechanisms are kept in the kernel by pins below
//! `/sys/fs/bpf/sameport` (`pin_dir`, `pinned`): `cgroup_bind` changes binds in a cgroup, `guard`
//! refuses binds of reserved ports, `traffic` chooses the member of a port that gets a connection. `socket_iter` finds the owners of sockets, `sk_lookup` the programs
//! that select a socket before the kernel does.

mod attach_error;
pub mod cgroup_bind;
pub mod guard;
mod mapped_file;
mod object_calls;
mod object_loader;
mod pin_dir;
mod pinned;
mod programs;
pub(crate) mod sized_map;
mod sk_lookup;
pub(crate) mod socket_iter;
pub(crate) mod syscall;
pub mod traffic;

pub use attach_error::AttachError;
pub use pin_dir::PinError;
pub use sk_lookup::sk_lookup_programs;
pub use socket_iter::LastDataReader;

/// Skips a test whose programs cannot be loaded or attached here.
#[cfg(test)]
#[track_caller]
fn skip_test(name: &str, why: &dyn std::fmt::Debug) {
    if rustix::process::geteuid().is_root() {
        sameport_skips::skip(name, &format!("no BPF programs: {why:?}"));
    } else {
        sameport_skips::skip(name, &format!("needs root: {why:?}"));
    }
}
