//! The traps of changing a program's bind from outside, each with a small hostile C program.
//!
//! A trap says, a line a case, what its binds gave and whether the socket was shared. Bare, every
//! result is the kernel's own and nothing is shared; under `sameport run` the results must be the
//! same, the right sockets shared, and the supervisor in good health afterwards: nearly every trap
//! ends with a plain bind that has to be shared (`after`).
#![cfg(target_os = "linux")]

mod addresses;
mod flood;
#[path = "../harness/mod.rs"]
mod harness;
mod inheritance;
mod interference;
mod privileges;
mod supervisor;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use harness::{Exited, User, c_program, free_port, start_command, start_run};

/// The trap's program, compiled once however many tests want it.
fn program(name: &str) -> PathBuf {
    static MADE: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(name.to_owned()).or_insert_with(|| c_program(name, &[])).clone()
}

/// What a trap saw: a line a case, `CASE RESULT SHARED`.
type Lines<'a> = &'a [&'a str];

/// Runs the trap bare, then under `run`, with `PORT` among its arguments replaced by a free port.
///
/// `expected` is what it must say under `run`. Bare, it must say the same except that nothing is
/// shared. Gives what `run` said on stderr.
#[track_caller]
fn spring(user: User, trap: &str, arguments: &[&str], expected: Lines<'_>) -> String {
    spring_under(user, &[], trap, arguments, expected)
}

#[track_caller]
fn spring_under(
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

/// The trap's program and its arguments.
fn command(trap: &str, arguments: &[&str]) -> Vec<String> {
    let program = program(trap).into_os_string().into_string().unwrap();
    [program].into_iter().chain(with_port(arguments)).collect()
}

fn with_port(arguments: &[&str]) -> Vec<String> {
    let port = free_port().to_string();
    arguments.iter().map(|argument| argument.replace("PORT", &port)).collect()
}
