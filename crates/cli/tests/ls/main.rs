//! `sameport ls`, the real binary: against `ss` on a busy machine, in what it tells of sockets made
//! for it, here, in other network namespaces and in a crowd, while they change, and in how it takes its
//! command line.
#![cfg(target_os = "linux")]

mod against_ss;
mod command_line;
#[path = "../harness/mod.rs"]
mod harness;
mod many_sockets;
mod members;
mod netns;
mod sockets;
mod states;
mod watching;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

const NOBODY: u32 = 65534;

/// One test at a time: a child that another test is about to start has, until its `exec`, every
/// socket of this process, and is rightly listed.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The binary, for the user who runs the tests.
fn sameport(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sameport")).env_clear().args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json(args: &[&str]) -> Value {
    let output = sameport(&[args, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// What another user is told. Needs root.
fn json_as(user: u32, args: &[&str]) -> Value {
    let copy = harness::sameport();
    let mut command = Command::new(copy);
    let output = command.env_clear().args(args).arg("--json").uid(user).gid(user).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}
