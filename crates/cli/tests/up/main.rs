//! End-to-end tests of `up` and `down`: services of a file, edits under load, failures, and the watch.
#![cfg(target_os = "linux")]

mod edits;
mod failures;
mod fixture;
#[path = "../harness/mod.rs"]
mod harness;
mod watching;
