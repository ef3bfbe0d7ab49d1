//! End-to-end tests of `run --detach`: what the supervisor keeps of its caller, what the caller learns, and
//! what is left after a failure.
#![cfg(target_os = "linux")]

mod background;
mod caller;
#[path = "../harness/mod.rs"]
mod harness;
mod killed;
mod refused;
mod wait;
