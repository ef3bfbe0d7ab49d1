//! `sameport audit`, the real binary: hijacks that are planted, by their number in `docs/audit.md`, and
//! set-ups with which nothing is wrong.
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
