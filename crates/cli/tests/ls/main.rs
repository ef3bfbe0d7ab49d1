//! `sameport ls`, the real binary: against `ss` on a busy machine, in what it tells of sockets made
//! for it, here, in other network namespaces and in a crowd, while they change, and in how it takes its
//! command line.
#![cfg(target_os = "linux")]

mod against_ss;
mod command_line;
mod crowd;
mod elsewhere;
mod members;
#[path = "../stage/quick.rs"]
mod quick;
mod sockets;
mod states;
mod watching;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
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
    let (_folder, copy) = readable_copy();
    let mut command = Command::new(copy);
    let output = command.env_clear().args(args).arg("--json").uid(user).gid(user).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Says that a test does nothing here; where CI promises everything, that is a failure.
fn skip(test: &str, reason: &str) {
    eprintln!("skipped: {test}: {reason}");
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/skips.txt");
    let allowed = std::fs::read_to_string(list).unwrap_or_default();
    let expected = allowed.lines().any(|line| line.split(':').next() == Some(test));
    assert!(expected || std::env::var("CI").as_deref() != Ok("true"), "{test}: {reason}");
}

/// The binary where other users may execute it, which the build folder and TMPDIR may not permit.
fn readable_copy() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = folder.path().join("sameport");
    std::fs::copy(env!("CARGO_BIN_EXE_sameport"), &copy).unwrap();
    (folder, copy)
}
