//! `sameport run --private`: nobody joins but who belongs to the group, root included; and what it needs.
#![cfg(target_os = "linux")]

#[path = "../stage/mod.rs"]
mod stage;

#[path = "../named/room.rs"]
#[allow(dead_code, reason = "named runs use more of it")]
mod room;

mod intruder;
mod lasting;
mod refused;
mod rights;
