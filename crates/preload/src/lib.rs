//! The preload library for Linux: a shared object, as bytes.
//!
//! `build.rs` compiles `object.rs` and its modules into a shared object without dependencies: no
//! libc, no allocator, no unwinder. One file therefore works in glibc and in musl programs.
//! `docs/preload.md` describes its behaviour.

/// The shared object.
///
/// `None` if the target is not Linux on x86-64, AArch64 or RISC-V (64 bits), or if the build had no
/// compiler for a foreign target.
pub const LIBRARY: Option<&[u8]> = include!(concat!(env!("OUT_DIR"), "/library.rs"));

/// The reason why [`LIBRARY`] is `None`; empty otherwise.
pub const WHY_NOT: &str = include_str!(concat!(env!("OUT_DIR"), "/why-not.txt"));

// The modules of the shared object, for their unit tests. In the object, the files of
// `sameport-policy` lie in the same folder; here they come from the crate.
#[cfg(all(test, target_os = "linux"))]
mod protocol {
    pub(crate) use sameport_policy::addr::Protocol;
}
#[cfg(all(test, target_os = "linux"))]
mod overlap {
    pub(crate) use sameport_policy::addr::contains_ip;
}
#[cfg(all(test, target_os = "linux"))]
use sameport_policy::bind::{map, reuse, share, sockaddr, source};

#[cfg(all(test, target_os = "linux"))]
mod environment;
#[cfg(all(test, target_os = "linux"))]
#[expect(dead_code, reason = "object.rs calls it, which would replace the test's own `bind`")]
mod hooks;
#[cfg(all(test, target_os = "linux"))]
mod machine;
#[cfg(all(test, target_os = "linux"))]
mod next;
#[cfg(all(test, target_os = "linux"))]
mod own_sockets;
#[cfg(all(test, target_os = "linux"))]
mod report;
#[cfg(all(test, target_os = "linux"))]
mod settings;
#[cfg(all(test, target_os = "linux"))]
mod sharing;
#[cfg(all(test, target_os = "linux"))]
mod sockets;
