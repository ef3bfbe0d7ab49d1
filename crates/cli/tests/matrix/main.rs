//! The programs of real life under `sameport run`: two copies of each on one port, by every user
//! there is, next to the control that shows the second one refused without `run`.
#![cfg(target_os = "linux")]

#[path = "../harness/mod.rs"]
mod harness;
mod interposers;
mod mixed_runs;
mod options;
mod programs;
mod refusals;
mod two_copies;
