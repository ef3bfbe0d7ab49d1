//! End-to-end tests of policies: which worker gets the next connection.
#![cfg(target_os = "linux")]

#[path = "../harness/mod.rs"]
mod harness;
mod intruders;
mod run_classic;
mod run_extended;
mod servers;
