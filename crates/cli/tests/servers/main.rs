//! Real servers as named runs: each is restarted twice and its worker is killed once, while clients
//! count what they lose. One test a server.
//!
//! `docs/servers.md` is the list with the options that each server needs; a test compares them.
#![cfg(target_os = "linux")]

#[path = "../harness/mod.rs"]
mod harness;
mod inventory;
mod names;
mod python;
mod runtimes;
mod server;
mod sessions;
mod stores;
mod trial;
mod web;
