//! Named runs end to end: real programs, children that misbehave, and what becomes of clients.
#![cfg(target_os = "linux")]

mod children;
mod crashes;
#[path = "../harness/mod.rs"]
mod harness;
mod programs;
mod ready;
mod socket_kinds;
mod supervisor;
