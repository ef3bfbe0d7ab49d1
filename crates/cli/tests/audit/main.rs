//! End-to-end tests of `sameport audit`: hijacks, by their number in `docs/audit.md`, and setups
//! without one.
#![cfg(target_os = "linux")]

#[path = "../harness/mod.rs"]
mod harness;

mod clean_setups;
mod command_line;
mod false_alarms;
mod hijacks;
mod network;
mod privileged;
mod watching;
