//! Looking and acting for sameport on Linux.
//!
//! Every Linux system call beyond plain sockets is made here. This crate decides nothing (that is
//! `sameport-rules`) and prints nothing (that is the `sameport` binary). On other systems it is
//! empty.

#![cfg(target_os = "linux")]

pub mod cgroup;
mod folder;
pub mod guard;
pub mod held;
mod identity;
pub mod inherited;
pub mod local;
pub mod look;
pub mod named;
mod network;
pub mod passing;
pub mod preload;
pub mod private;
pub mod probe;
pub mod seccomp;
pub mod semantics;
pub mod service;
pub mod signals;
pub mod terminal;
#[cfg(test)]
mod turns;
pub mod waiting;
pub mod worker;

pub use folder::{PlaceError, Refusal};
pub use identity::Identity;
pub use rustix::io::Errno;

/// The kernel's release, such as `6.18.2`.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The user whose sockets the caller opens: its effective user id.
#[must_use]
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}
