//! Socket addresses of sameport: parsing `HOST:PORT`, and comparing the addresses of bound sockets.
//!
//! The crate needs nothing but the standard library and makes no system call, so that the published
//! library `sameport` and all other crates share one parser.
//!
//! - [`AddrSpec`]: a host and a port as a user writes them, parsed strictly, not resolved.
//! - [`PortSpec`]: an address with a protocol and a device, the notation of every verb.
//! - [`Address`]: the address of a bound socket: protocol, IP address, port, device.
//! - [`Protocol`]: TCP or UDP.

#![forbid(unsafe_code)]

// For overlap.rs.
use std::net;

mod addr_spec;
mod address;
mod overlap;
mod port_spec;
mod protocol;
#[cfg(feature = "serde")]
mod serialize;

pub use addr_spec::{AddrSpec, AddrSpecError, Host, parse_fixed_port, parse_port};
pub use address::Address;
pub use overlap::contains_ip;
pub use port_spec::{PortSpec, PortSpecError, is_device};
pub use protocol::Protocol;

/// The source of [`Protocol`], which uses `core` only: the preload library is compiled from it.
pub const PROTOCOL_SOURCE: &str = include_str!("protocol.rs");

/// The source of [`contains_ip`], which uses `core` only too.
pub const OVERLAP_SOURCE: &str = include_str!("overlap.rs");

/// The examples of the README are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
