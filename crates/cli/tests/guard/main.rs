//! End-to-end tests of `sameport guard`: which binds it allows and refuses, and what it leaves.
#![cfg(target_os = "linux")]

mod bind_calls;
mod failures;
mod fixture;
#[path = "../harness/mod.rs"]
mod harness;
mod holders;
mod persistence;
