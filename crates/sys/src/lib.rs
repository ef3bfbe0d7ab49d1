//! Linux system calls for sameport: seccomp, netlink, `/proc`, eBPF, cgroups, processes, sockets.
//!
//! One folder for each kernel mechanism. The crate makes no decisions (`sameport-policy` does) and
//! prints nothing (the `sameport` binary does). On other systems it is empty.

#![cfg(target_os = "linux")]

pub mod bpf;
pub mod cgroup;
mod errno;
pub mod fd;
pub mod guarded;
pub mod inspect;
mod int_hash;
pub mod kept_log;
pub mod log_file;
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
pub mod text_file;
pub mod users;

pub use private_dir::{DirRefusal, PrivateDirError};
pub use process::identity::ProcessIdentity;
pub use rustix::io::Errno;

/// The release of the running kernel, such as `6.18.2` (`uname(2)`).
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The effective user id, which owns the sockets that this process opens (`geteuid(2)`).
#[must_use]
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}
