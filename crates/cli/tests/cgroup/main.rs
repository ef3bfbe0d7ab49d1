//! The cgroup interposer from outside: `sameport attach` and `detach`, and the programs that live
//! in an attached cgroup.
#![cfg(target_os = "linux")]

mod leftovers;
mod manners;
mod reach;
mod refusals;
mod rewriting;
mod room;
mod running;
mod seen;
#[path = "../stage/mod.rs"]
mod stage;
