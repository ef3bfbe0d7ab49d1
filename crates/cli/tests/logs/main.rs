//! End-to-end tests of kept output: its files, `sameport logs`, and `run --prefix`.
#![cfg(target_os = "linux")]

mod full_disk;
#[path = "../harness/mod.rs"]
mod harness;
mod hostile;
mod kept;
mod killed;
mod prefix;
mod refused;
mod run_with_kept_output;
mod where_it_goes;
