//! The container image of a release: its bytes, and containers of it under a real podman.
#![cfg(target_os = "linux")]

mod archive;
mod containers;
#[path = "../harness/mod.rs"]
mod harness;
mod podman;
