//! End-to-end tests of `sameport steer`, with programs that sameport did not start.
#![cfg(target_os = "linux")]

#[path = "../harness/mod.rs"]
mod harness;
mod shown;
