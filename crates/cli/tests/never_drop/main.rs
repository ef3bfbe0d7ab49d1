//! No client loses a connection while workers of a named run restart. `cargo xtask bench restart`
//! is the long version, with other programs to compare.
#![cfg(target_os = "linux")]

mod canary;
mod clients;
mod drains;
#[path = "../harness/mod.rs"]
mod harness;
mod losses;
mod upgrades;
