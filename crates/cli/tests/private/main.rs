//! `sameport run --private`: nobody joins but who belongs to the group, root included; and what it needs.
#![cfg(target_os = "linux")]

#[path = "../harness/mod.rs"]
mod harness;

mod intruder;
mod lifetime;
mod refused;
mod rights;
