//! The decisions of sameport, and nothing else.
//!
//! Facts come in as plain values, verdicts go out as plain values. This crate never reads a file,
//! a clock, the environment or a socket, and has no `unsafe`; `tests/walls.rs` keeps it so. Every
//! rule can therefore be tested as a table, on any system.

#![forbid(unsafe_code)]

pub mod abilities;
pub mod audit;
pub mod belonging;
pub mod bind;
pub mod calls;
pub mod comings;
pub mod ending;
pub mod filter;
pub mod groups;
pub mod guard;
pub mod held;
pub mod instruction;
pub mod joins;
pub mod keys;
pub mod life;
pub mod map;
pub mod name;
pub mod network;
pub mod predict;
pub mod private;
pub mod protocol;
pub mod readiness;
pub mod refusal;
pub mod reserved;
pub mod semantics;
pub mod service;
pub mod share;
pub mod sockaddr;
pub mod sockets;
pub mod source;
pub mod steering;
pub mod unit;
pub mod wanted;

/// The files of this crate that use nothing but `core`, by name: the preload library is compiled
/// with them as they are, in a program where there is no `std`.
pub const CORE_ONLY: &[(&str, &str)] = &[
    ("map.rs", include_str!("map.rs")),
    ("protocol.rs", include_str!("protocol.rs")),
    ("share.rs", include_str!("share.rs")),
    ("sockaddr.rs", include_str!("sockaddr.rs")),
    ("source.rs", include_str!("source.rs")),
];
