//! The decisions of sameport, and nothing else.
//!
//! Facts come in as plain values, verdicts go out as plain values. This crate never reads a file,
//! a clock, the environment or a socket, and has no `unsafe`; `tests/structure` keeps it so. Every
//! rule can therefore be tested as a table, on any system.

#![forbid(unsafe_code)]

pub mod audit;
pub mod bind;
pub mod capability;
pub mod classic_bpf;
pub mod diff;
pub mod guard;
pub mod join_debounce;
pub mod lifecycle;
pub mod membership;
pub mod model;
pub mod predict;
pub mod refusal;
pub mod seccomp;
#[cfg(feature = "serde")]
mod serialize;
pub mod systemd;
pub mod traffic;

pub use sameport_addr as addr;

/// The files that use nothing but `core`, by name: `build.rs` of the preload library compiles them
/// as they are, for programs that may have no `std`. Side by side there, so each refers to another
/// by `super`.
pub const CORE_ONLY: &[(&str, &str)] = &[
    ("map.rs", include_str!("bind/map.rs")),
    ("protocol.rs", sameport_addr::PROTOCOL_SOURCE),
    ("share.rs", include_str!("bind/share.rs")),
    ("sockaddr.rs", include_str!("bind/sockaddr.rs")),
    ("source.rs", include_str!("bind/source.rs")),
];
