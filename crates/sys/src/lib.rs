//! Looking and acting for sameport on Linux.
//!
//! Every Linux system call beyond plain sockets is made here. This crate decides nothing (that is
//! `sameport-policy`) and prints nothing (that is the `sameport` binary). On other systems it is
//! empty.

#![cfg(target_os = "linux")]

pub mod bpf;
pub mod cgroup;
mod errno;
pub mod fd;
pub mod inspect;
pub mod netlink;
pub mod netns;
pub mod preload;
mod private_dir;
pub mod probe;
pub mod proc;
pub mod process;
pub mod run_files;
pub mod seccomp;
#[cfg(test)]
mod serial;
pub mod socket;
pub mod systemd;
pub mod terminal;
pub mod users;

pub use private_dir::{DirRefusal, PrivateDirError};
pub use process::identity::ProcessIdentity;
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
