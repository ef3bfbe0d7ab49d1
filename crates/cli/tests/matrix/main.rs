//! Real programs under `sameport run`: two copies of each on one port, for every user, and the
//! control without `run`, where the second copy is refused.
#![cfg(target_os = "linux")]

#[path = "../harness/mod.rs"]
mod harness;
mod interposers;
mod mixed_runs;
mod native_binds;
mod options;
mod programs;
mod refusals;
mod two_copies;
