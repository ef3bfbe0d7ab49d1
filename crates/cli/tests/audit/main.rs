//! `sameport audit`, the real binary: hijacks that are planted, by their number in `docs/audit.md`, and
//! set-ups with which nothing is wrong.
#![cfg(target_os = "linux")]

#[path = "../stage/mod.rs"]
mod stage;

mod clean;
mod command_line;
mod network;
mod planted;
mod privileged;
mod setups;
mod watching;
