//! More than one machine: the agent-check of HAProxy, and a run that announces that it leaves.
#![cfg(target_os = "linux")]

mod agent;
mod fixture;
mod haproxy;
#[path = "../harness/mod.rs"]
mod harness;
mod kubernetes;
#[allow(dead_code, reason = "a benchmark uses the rest")]
mod lab;
mod leaving;
mod pods;
#[path = "../harness/sandbox.rs"]
#[allow(dead_code, reason = "this executable uses a part of it")]
mod sandbox;
