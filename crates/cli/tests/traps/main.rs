//! The traps of changing a bind from outside, each a small hostile C program.
//!
//! A trap prints a line a case: the result of its bind, and whether the socket is shared. Without
//! `run` no socket is shared. Under `run` the results must be the same, the right sockets shared,
//! and the supervisor intact: nearly every trap ends with a plain bind that must be shared
//! (`after`).
#![cfg(target_os = "linux")]

mod addresses;
mod blocking;
mod flood;
#[path = "../harness/mod.rs"]
mod harness;
mod inheritance;
mod interference;
mod own_sockets;
mod privileges;
mod restricted;
mod supervisor;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use harness::{Exited, User, c_program, free_port, start_command, start_run};

/// The program of a trap, compiled once.
fn program(name: &str) -> PathBuf {
    static COMPILED: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    compiled.entry(name.to_owned()).or_insert_with(|| c_program(name, &[])).clone()
}

/// The output of a trap: a line a case, `CASE RESULT SHARED`.
type Lines<'a> = &'a [&'a str];

/// Runs the trap without and under `run`. `PORT` in its arguments becomes a free port.
///
/// `expected` is the output under `run`. Returns the stderr of `run`.
#[track_caller]
fn run_trap(user: User, trap: &str, arguments: &[&str], expected: Lines<'_>) -> String {
    run_trap_with_options(user, &[], trap, arguments, expected)
}

#[track_caller]
fn run_trap_with_options(
    user: User,
    options: &[&str],
    trap: &str,
    arguments: &[&str],
    expected: Lines<'_>,
) -> String {
    let bare = start_command(user, program(trap), &with_port(arguments)).wait();
    let exited = start_run(user, options, &command(trap, arguments)).wait();
    harness::traps::differ_in_sharing_only(user, &bare, &exited, expected);
    assert!(!exited.stderr.contains("panicked"), "{}", exited.stderr);
    exited.stderr
}

fn lines(exited: &Exited) -> Vec<&str> {
    exited.stdout.lines().collect()
}

/// The program of the trap and its arguments.
fn command(trap: &str, arguments: &[&str]) -> Vec<String> {
    let program = program(trap).into_os_string().into_string().unwrap();
    [program].into_iter().chain(with_port(arguments)).collect()
}

fn with_port(arguments: &[&str]) -> Vec<String> {
    let port = free_port().to_string();
    arguments.iter().map(|argument| argument.replace("PORT", &port)).collect()
}
