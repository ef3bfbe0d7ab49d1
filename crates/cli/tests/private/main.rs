//! End-to-end tests of `sameport run --private`: only members of the group share the port, root
//! included.
#![cfg(target_os = "linux")]

#[path = "../harness/mod.rs"]
mod harness;

mod intruder;
mod lifetime;
mod refused;
mod rights;
