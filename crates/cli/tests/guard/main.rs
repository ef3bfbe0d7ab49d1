//! `sameport guard` from outside: who is let, who is refused, and what stays of it.
#![cfg(target_os = "linux")]

mod bind_calls;
mod failures;
mod fixture;
#[path = "../harness/mod.rs"]
mod harness;
mod holders;
mod persistence;
