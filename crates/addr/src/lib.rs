//! Addresses as users write them: protocol, host and port, parsed strictly.
//!
//! The crate has no dependency and makes no system call, so that the published library and every
//! other crate of the workspace can share one parser.

#![forbid(unsafe_code)]

pub mod addr_spec;
pub mod address;
pub mod protocol;

/// The source of [`protocol`], which uses `core` only: the preload library is compiled with it.
pub const PROTOCOL_SOURCE: &str = include_str!("protocol.rs");
