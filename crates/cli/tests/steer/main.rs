//! End-to-end tests of `sameport steer` and `sameport drain`.
#![cfg(target_os = "linux")]

#[path = "../harness/mod.rs"]
mod harness;
mod shown;
mod supervised;
