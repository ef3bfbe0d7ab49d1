//! The trap programs with the preload library: every case must return the same as without it, with
//! the right sockets shared.
//!
//! Compiled to bind by the C library (`BY_LIBC`), where the preload library intercepts.

use crate::harness::traps::{addresses, differ_in_sharing_only};
use crate::harness::{User, c_program, free_port, is_root, start_command};
use crate::preloaded;

/// Runs a trap without and with the library. Without it, no socket is shared.
#[track_caller]
fn run_trap(trap: &str, mode: &[&str], expected: &[&str]) {
    let program = c_program(trap, &["-DBY_LIBC"]).into_os_string().into_string().unwrap();
    for user in User::all() {
        let port = free_port().to_string();
        let command: Vec<&str> = [&*program].iter().chain(mode).copied().chain([&*port]).collect();
        let bare = start_command(*user, command[0], &command[1..]).wait();
        let exited = preloaded(*user, &[("SAMEPORT_SHARE", "1")], &command).wait();
        differ_in_sharing_only(*user, &bare, &exited, expected);
    }
}

#[test]
fn wrong_calls_return_the_kernels_error() {
    // The kernel refuses these binds, so the library changes no option.
    let expected = addresses("v6-on-v4 EAFNOSUPPORT no");
    run_trap("trap_address", &[], &expected);
}

#[test]
fn closed_descriptors_are_handled() {
    let expected = ["close_range 0 yes", "closefrom 0 yes", "close-each 0 yes", "after 0 yes"];
    run_trap("trap_restricted", &["closed"], &expected);
}

#[test]
fn program_with_a_filter_or_not_dumpable_shares() {
    run_trap("trap_restricted", &["filter"], &["before-filter 0 yes", "own-filter EACCES yes"]);
    let not_dumpable = [
        "dumpable 0 yes",
        "not-dumpable 0 yes",
        "not-dumpable 0 yes",
        "not-dumpable 0 yes",
        "after 0 yes",
    ];
    run_trap("trap_restricted", &["dumpable"], &not_dumpable);
}

#[test]
fn everything_a_program_starts_is_shared() {
    let expected = [
        "fork 0 yes",
        "vfork 0 yes",
        "vfork-exec 0 yes",
        "posix_spawn 0 yes",
        "clone 0 yes",
        "grandchild-in-own-session 0 yes",
        "before-exec 0 yes",
        "after 0 yes",
    ];
    run_trap("trap_children", &[], &expected);
}

#[test]
fn interfering_threads_are_harmless() {
    let own = ["own-table 0 yes", "same-number-elsewhere 0 no", "after 0 yes"];
    run_trap("trap_threads", &["table"], &own);
    run_trap("trap_threads", &["flip"], &["flip 0 -", "after 0 yes"]);
    run_trap("trap_threads", &["swap"], &["swap 0 -", "after 0 yes"]);
}

#[test]
fn signals_do_not_break_a_bind() {
    let expected = [
        "restart-2-ms 0 yes",
        "no-restart-2-ms 0 yes",
        "restart-1-ms 0 yes",
        "no-restart-1-ms 0 yes",
        "no-restart-200-us 0 yes",
        "after 0 yes",
    ];
    run_trap("trap_interrupted", &[], &expected);
}

#[test]
fn other_families_are_untouched() {
    if !is_root() {
        return crate::harness::skip("preload-families", "needs root: raw sockets");
    }
    let program = c_program("trap_families", &["-DBY_LIBC"]);
    let port = free_port().to_string();
    let command = [program.to_str().unwrap(), &port];
    let exited = preloaded(User::Current, &[("SAMEPORT_SHARE", "1")], &command).wait();
    let expected = [
        "unix 0 no",
        "unix-in-own-directory 0 -",
        "unix-datagram 0 no",
        "unix-abstract 0 no",
        "inet-on-unix EINVAL no",
        "netlink 0 no",
        "packet 0 no",
        "raw 0 no",
        "tcp 0 yes",
        "udp 0 yes",
        "mptcp 0 yes",
        "after 0 yes",
    ];
    assert_eq!(exited.stdout.lines().collect::<Vec<_>>(), expected, "{exited:?}");
}
