//! The preload library: the shared object that runs inside other people's programs, as bytes.
//!
//! `build.rs` compiles `object.rs` and its modules into a shared object that needs nothing: no
//! libc, no allocator, no unwinder. The same file therefore works in glibc and in musl programs.
//! What it does is told in `docs/preload.md`. On macOS and FreeBSD, this crate itself can be compiled
//! into such a library: see `elsewhere.rs`.

/// The shared object, or `None` in a build for a system where there is none: not Linux, a machine
/// it is not written for, or a build for another machine without that machine's compiler.
pub const LIBRARY: Option<&[u8]> = include!(concat!(env!("OUT_DIR"), "/library.rs"));

/// Why there is none; empty if there is one.
pub const WHY_NOT: &str = include_str!(concat!(env!("OUT_DIR"), "/why-not.txt"));

// The object's own files, for their tests. `build.rs` puts the files of `sameport-policy` beside
// them; here they come from the crate.
#[cfg(all(test, target_os = "linux"))]
mod protocol {
    pub(crate) use sameport_policy::addr::Protocol;
}
#[cfg(all(test, target_os = "linux"))]
use sameport_policy::bind::{map, share, sockaddr, source};

#[cfg(all(test, target_os = "linux"))]
mod environment;
#[cfg(all(test, target_os = "linux"))]
#[expect(dead_code, reason = "the exported functions, which would stand before the test's own")]
mod hooks;
#[cfg(all(test, target_os = "linux"))]
mod machine;
#[cfg(all(test, target_os = "linux"))]
mod next;
#[cfg(all(test, target_os = "linux"))]
mod report;
#[cfg(all(test, target_os = "linux"))]
mod settings;
#[cfg(all(test, target_os = "linux"))]
mod sockets;

#[cfg(all(feature = "hooks", any(target_os = "macos", target_os = "freebsd")))]
mod elsewhere;
#[cfg(all(feature = "hooks", any(target_os = "macos", target_os = "freebsd")))]
use sameport_policy::addr::protocol;
#[cfg(all(feature = "hooks", any(target_os = "macos", target_os = "freebsd")))]
use sameport_policy::bind::{map, source};
#[cfg(all(feature = "hooks", any(target_os = "macos", target_os = "freebsd")))]
#[expect(dead_code, reason = "there is nobody to report to")]
mod settings;
