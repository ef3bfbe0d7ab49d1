//! The programs of real life under `sameport run`: two copies of each on one port, by every user
//! there is, next to the control that shows the second one refused without `run`.
#![cfg(target_os = "linux")]

mod interposers;
mod options;
mod peers;
mod refusals;
#[path = "../stage/mod.rs"]
mod stage;
mod together;
mod two_copies;
