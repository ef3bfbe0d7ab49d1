//! `sameport guard` from outside: who is let, who is refused, and what stays of it.
#![cfg(target_os = "linux")]

mod failures;
mod life;
mod locked_out;
mod room;
#[path = "../stage/mod.rs"]
mod stage;
mod ways;
