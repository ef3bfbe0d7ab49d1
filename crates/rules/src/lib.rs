//! The decisions of sameport, and nothing else.
//!
//! Facts come in as plain values, verdicts go out as plain values. This crate never reads a file,
//! a clock, the environment or a socket, and has no `unsafe`; `tests/walls.rs` keeps it so. Every
//! rule can therefore be tested as a table, on any system.

#![forbid(unsafe_code)]

pub mod bind;
pub mod calls;
pub mod ending;
pub mod filter;
pub mod groups;
pub mod joins;
pub mod map;
pub mod protocol;
pub mod readiness;
pub mod refusal;
pub mod sockaddr;
pub mod sockets;
pub mod wanted;
