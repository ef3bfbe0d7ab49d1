//! End-to-end tests of `sameport steer` and `sameport drain`.
#![cfg(target_os = "linux")]

mod bad_input;
mod busy;
mod controllers;
mod drains;
mod fixture;
mod foreign;
#[path = "../harness/mod.rs"]
mod harness;
mod intruders;
mod mixed;
mod policies;
mod shown;
mod supervised;
