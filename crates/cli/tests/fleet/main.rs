//! More than one machine: the agent-check of HAProxy, and a run that announces that it leaves.
#![cfg(target_os = "linux")]

mod agent;
mod fixture;
#[path = "../harness/mod.rs"]
mod harness;
mod leaving;
