//! Named runs end to end: real programs, children that misbehave, and what becomes of clients.
#![cfg(target_os = "linux")]

mod children;
mod crashes;
mod kinds;
mod programs;
mod ready;
mod room;
#[path = "../stage/mod.rs"]
mod stage;
mod supervisor;
