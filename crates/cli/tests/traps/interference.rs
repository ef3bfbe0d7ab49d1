//! Threads, signals and exits during a bind.

use super::harness::{User, is_root};
use super::{run_trap, run_trap_with_options};

#[test]
fn thread_with_its_own_descriptors_shares() {
    let expected = ["own-table 0 yes", "same-number-elsewhere 0 no", "after 0 yes"];
    for user in User::all() {
        run_trap(*user, "trap_threads", &["table", "PORT"], &expected);
    }
}

#[test]
fn changing_address_is_harmless() {
    for user in User::all() {
        run_trap(*user, "trap_threads", &["flip", "PORT"], &["flip 0 -", "after 0 yes"]);
    }
}

#[test]
fn changing_descriptor_is_harmless() {
    for user in User::all() {
        run_trap(*user, "trap_threads", &["swap", "PORT"], &["swap 0 -", "after 0 yes"]);
    }
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
    for user in User::all() {
        run_trap(*user, "trap_interrupted", &["PORT"], &expected);
    }
}

/// The supervisor's duplicate of the socket must not block the next bind of the worker.
#[test]
fn closed_address_can_be_bound_again() {
    for user in User::all() {
        let shared = ["tcp-again 0 yes", "udp-again 0 yes"];
        run_trap(*user, "trap_rebind", &["PORT"], &shared);
        let left_alone = ["tcp-again 0 no", "udp-again 0 no"];
        run_trap_with_options(*user, &["--port", "1"], "trap_rebind", &["PORT"], &left_alone);
    }
}

#[test]
fn dead_callers_are_forgotten() {
    for user in User::all() {
        let mut expected =
            vec!["killed-processes-are-gone 0 -", "killed-threads-let-exec-happen 0 -"];
        if is_root() && *user == User::Current {
            expected.push("pid-reused 0 no");
        }
        expected.push("after 0 yes");
        let program = super::program("trap_stale");
        for (mode, is_bare) in [("bare", true), ("supervised", false)] {
            let arguments = super::with_port(&["PORT", mode]);
            let exited = if is_bare {
                super::start_command(*user, &program, &arguments).wait()
            } else {
                super::start_run(*user, &[], &super::command("trap_stale", &["PORT", mode])).wait()
            };
            let expected: Vec<String> = expected
                .iter()
                .map(|line| if is_bare { line.replace(" yes", " no") } else { (*line).into() })
                .collect();
            assert_eq!(super::lines(&exited), expected, "{mode}, {user:?}: {}", exited.stderr);
            assert_eq!(exited.code, 0, "{mode}, {user:?}: {exited:?}");
        }
    }
}
