//! End-to-end tests of `sameport ls`: compared with `ss`, on sockets of the test, in other network
//! namespaces, with many sockets, with `--watch`, and its command line.
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

/// Serializes the tests. A child of another test holds every socket of this process between fork
/// and exec, and `ls` would list it.
fn serialize() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the binary as the user of the tests.
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

/// The listing for another user. Needs root.
fn json_as(user: u32, args: &[&str]) -> Value {
    let copy = harness::sameport();
    let mut command = Command::new(copy);
    let output = command.env_clear().args(args).arg("--json").uid(user).gid(user).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}
