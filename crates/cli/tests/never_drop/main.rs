//! Whether clients lose a connection while the workers of a named run are restarted and killed.
//! `cargo xtask bench restart` is the long version, with others to compare with.
#![cfg(target_os = "linux")]

mod clients;
#[path = "../harness/mod.rs"]
mod harness;
mod losses;
