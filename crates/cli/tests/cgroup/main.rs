//! End-to-end tests of the cgroup interposer: `sameport attach` and `detach`, and programs in an
//! attached cgroup.
#![cfg(target_os = "linux")]

mod coexistence;
mod fixture;
#[path = "../harness/mod.rs"]
mod harness;
mod leftovers;
mod listing;
mod refusals;
mod rewriting;
mod run_via_cgroup;
mod scope;
