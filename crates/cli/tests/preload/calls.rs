//! The calls of the program: what they return, and what stays unchanged.

use std::path::PathBuf;

use crate::harness::keeper::MARK;
use crate::harness::{
    User, c_program, command_for, compiled_by, find_program, free_port, in_test_dir, skip,
    spawn_process,
};
use crate::{library, preloaded, stdout_of};

fn calls() -> String {
    c_program("preload_calls", &[]).into_os_string().into_string().unwrap()
}

const SHARE: (&str, &str) = ("SAMEPORT_SHARE", "1");

/// `preload_calls`, compiled for each libc of this machine.
fn for_each_libc() -> Vec<PathBuf> {
    let mut programs = vec![c_program("preload_calls", &[])];

    match find_program("musl-gcc") {
        Some(_) => {
            let flags = ["-Dstrerrorname_np=strerror"];
            programs.push(compiled_by("musl-gcc", "preload_calls", &flags));
        }
        None => skip("preload-musl", "no musl-gcc"),
    }
    programs
}

#[test]
fn binds_of_both_libcs_are_shared_and_moved() {
    for program in for_each_libc() {
        let program = program.to_str().unwrap();
        for user in User::all() {
            let (old, new) = (free_port(), free_port());
            let rules = format!("{old}={new},tcp:127.0.0.1:{old}=127.0.0.2");
            let map = ("SAMEPORT_MAP", &*rules);
            // The program sets SO_REUSEADDR on UDP.
            let cases = [
                (vec![], "tcp", "127.0.0.1", format!("0 127.0.0.1 {old} port=0 address=0")),
                (vec![SHARE], "tcp", "127.0.0.1", format!("0 127.0.0.1 {old} port=1 address=0")),
                (vec![SHARE], "udp", "::1", format!("0 ::1 {old} port=1 address=0")),
                (
                    vec![SHARE],
                    "udp",
                    "224.0.0.251",
                    format!("0 224.0.0.251 {old} port=0 address=1"),
                ),
                (vec![map], "tcp", "127.0.0.1", format!("0 127.0.0.2 {old} port=0 address=0")),
                (vec![map], "tcp", "::", format!("0 :: {new} port=0 address=0")),
                (
                    vec![map, SHARE],
                    "udp",
                    "127.0.0.1",
                    format!("0 127.0.0.1 {new} port=1 address=0"),
                ),
                (
                    vec![SHARE, ("SAMEPORT_PORTS", "1,2")],
                    "tcp",
                    "::1",
                    format!("0 ::1 {old} port=0 address=0"),
                ),
            ];
            for (variables, protocol, ip, expected) in cases {
                let got = stdout_of(
                    *user,
                    &variables,
                    &[program, "bind", protocol, ip, &old.to_string()],
                );
                assert_eq!(got, format!("{expected} transparent=0\n"), "{variables:?} {program}");
            }
            let any = stdout_of(*user, &[SHARE], &[program, "bind", "tcp", "127.0.0.1", "0"]);
            assert!(any.ends_with("port=0 address=0 transparent=0\n"), "{any}");
        }
    }
}

#[test]
fn wrong_family_refuses_the_bind() {
    let (calls, port) = (calls(), free_port());
    // `[::1]` would stand for 127.0.0.1, too.
    let map = format!("{port}=[2001:db8::1]");
    let got = stdout_of(
        User::Current,
        &[("SAMEPORT_MAP", &map)],
        &[&calls, "bind", "tcp", "127.0.0.1", &port.to_string()],
    );
    assert!(got.starts_with("EAFNOSUPPORT 0.0.0.0 0 "), "{got}");
}

#[test]
fn transparent_applies_or_fails() {
    let (calls, port) = (calls(), free_port().to_string());
    for user in User::all() {
        for (asked, strange) in [("0.0.0.0", "192.0.2.77"), ("::", "[2001:db8::77]")] {
            let map = format!("{port}={strange}");
            let variables = [("SAMEPORT_TRANSPARENT", "1"), ("SAMEPORT_MAP", &*map)];
            let got = stdout_of(*user, &variables, &[&*calls, "bind", "tcp", asked, &port]);
            let plain = strange.trim_matches(['[', ']']);
            if *user == User::Current && crate::harness::is_root() {
                let expected = format!("0 {plain} {port} port=0 address=0 transparent=1\n");
                assert_eq!(got, expected);
            } else {
                assert!(got.starts_with("EPERM "), "{got}");
            }
        }
    }
}

#[test]
fn program_memory_is_unchanged() {
    let (calls, old, new) = (calls(), free_port().to_string(), free_port());
    for ip in ["127.0.0.1", "::1"] {
        let map = format!("{old}={new}");
        let variables = [SHARE, ("SAMEPORT_MAP", &*map)];
        let got = stdout_of(User::Current, &variables, &[&*calls, "read-only", ip, &old]);
        let moved = format!("0 {ip} {new} port=1 address=0 transparent=0\nunchanged\n");
        assert_eq!(got, moved);
    }
}

#[test]
fn errno_is_preserved() {
    let (calls, port, closed) = (calls(), free_port().to_string(), free_port().to_string());
    let expected =
        "bind 0 1234\nconnect -1 ECONNREFUSED\nstrange -1 EADDRNOTAVAIL\nsendto 1 1234\n";
    let map = format!("1={port}");
    let every = [
        vec![],
        vec![SHARE],
        vec![SHARE, ("SAMEPORT_MAP", &*map), ("SAMEPORT_SOURCE", "127.0.0.9")],
        vec![SHARE, ("SAMEPORT_REPORT", "nobody-listens-to-this")],
    ];
    for variables in every {
        let got = stdout_of(User::Current, &variables, &[&*calls, "errno", &port, &closed]);
        assert_eq!(got, expected, "{variables:?}");
    }
}

#[test]
fn no_descriptor_leaks() {
    let inbox = sameport_sys::preload::ReportSocket::open().unwrap();
    for name in ["nobody-listens-to-this", inbox.name()] {
        let variables = [SHARE, ("SAMEPORT_REPORT", name), ("SAMEPORT_SOURCE", "127.0.0.9")];
        let port = free_port().to_string();
        let got = stdout_of(User::Current, &variables, &[&*calls(), "descriptors", &port]);
        assert_eq!(got, "0 more\n");
    }
}

#[test]
fn signal_handlers_can_bind() {
    let port = free_port().to_string();
    for variables in [vec![SHARE], vec![SHARE, ("SAMEPORT_REPORT", "nobody-listens-to-this")]] {
        let got = stdout_of(User::Current, &variables, &[&*calls(), "signal", &port]);
        assert_eq!(got, "200 signals, 0 wrong\n");
    }
}

#[test]
fn variables_at_the_start_count() {
    let port = free_port().to_string();
    let got = stdout_of(User::Current, &[SHARE], &[&*calls(), "environment", &port]);
    assert_eq!(got, "overwritten 0 yes\n");
}

#[test]
fn many_threads_bind_at_once() {
    let port = free_port().to_string();
    for program in for_each_libc() {
        let program = program.to_str().unwrap();
        // Of the sockets on one address, the kernel accepts one, as it does without the library.
        for (mode, expected) in [("threads", "0 failed\n"), ("rivals", "63 failed\n")] {
            let command = [program, mode, "64", &port];
            assert_eq!(stdout_of(User::Current, &[SHARE], &command), expected, "{mode}");
        }
    }
}

#[test]
fn invalid_variable_fails_every_bind() {
    let port = free_port().to_string();
    let command = [&*calls(), "bind", "tcp", "127.0.0.1", &port];
    let exited = preloaded(User::Current, &[("SAMEPORT_MAP", "80=81,x")], &command).wait();
    assert_eq!(
        exited.stderr,
        "sameport preload: SAMEPORT_MAP=80=81,x: write FROM=TO, several separated by commas; until \
         then no bind succeeds\n"
    );
    assert!(exited.stdout.starts_with("EINVAL 0.0.0.0 0 "), "{exited:?}");
    // Invalid values of bindp's variables are errors only if no SAMEPORT variable is set.
    let variables = [SHARE, ("BIND_ADDR", "http://example.org"), ("BIND_PORT", "x")];
    assert!(stdout_of(User::Current, &variables, &command).starts_with("0 127.0.0.1 "));
}

#[test]
fn other_preloaded_libraries_keep_their_order() {
    let flags = ["-shared", "-fPIC"];
    let neighbour = c_program("preload_neighbour", &flags);
    let (calls, old, new, early) =
        (calls(), free_port().to_string(), free_port(), free_port().to_string());
    let (ours, theirs) = (library().display(), neighbour.display());
    // After ours, the other library sees the changed address; before ours, the program's.
    for (list, seen) in
        [(format!("{ours}:{theirs}"), new.to_string()), (format!("{theirs} {ours}"), old.clone())]
    {
        let mut command = command_for(User::Current, &calls, &["bind", "tcp", "127.0.0.1", &old]);
        command
            .env("LD_PRELOAD", &list)
            .env("EARLY_PORT", &early)
            .env("SAMEPORT_SHARE", "1")
            .env("SAMEPORT_MAP", format!("{old}={new}"));
        let exited = spawn_process(command).wait();
        let bound = format!("0 127.0.0.1 {new} port=1 address=0 transparent=0\n");
        assert_eq!(exited.stdout, bound, "{list}: {exited:?}");
        assert!(exited.stderr.contains(&format!("neighbour {seen}\n")), "{list}: {exited:?}");
        // The constructor of the other library binds before and after ours has run.
        assert!(exited.stderr.contains("early 0 port="), "{list}: {exited:?}");
    }
}

/// A constructor that calls our library before our constructor has run.
#[test]
fn early_constructors_are_reached() {
    let neighbour = c_program("preload_neighbour", &["-shared", "-fPIC", "-DONLY_EARLY"]);
    let early = free_port().to_string();
    let mut command = command_for(User::Current, "true", &[] as &[&str]);
    let list = format!("{}:{}", library().display(), neighbour.display());
    command.env("LD_PRELOAD", list).env("EARLY_PORT", &early).env("SAMEPORT_SHARE", "1");
    let exited = spawn_process(command).wait();
    assert!(exited.stderr.contains("early 0 port=1\n"), "{exited:?}");
}

#[test]
fn children_inherit_the_variables() {
    let own = library().to_str().unwrap().to_owned();
    let other = c_program("preload_neighbour", &["-shared", "-fPIC"]);
    let both = format!("{own}:{}", other.display());
    let env = find_program("env").unwrap();
    let listed = |list: &str, children: &str| {
        let mut command = command_for(User::Current, &env, &[] as &[&str]);
        command.env("LD_PRELOAD", list).env("SAMEPORT_SHARE", "1").env("A", "1").env("Z", "2");
        command.env("SAMEPORT_CHILDREN", children);
        let exited = spawn_process(command).wait();
        assert_eq!((exited.code, &*exited.stderr), (0, ""));
        let mut lines: Vec<_> = exited.stdout.lines().map(str::to_owned).collect();
        let by_harness = ["PATH=", "XDG_RUNTIME_DIR=", "LOGS_DIRECTORY=", &format!("{MARK}=")];
        lines.retain(|line| !by_harness.iter().any(|name| line.starts_with(name)));
        lines.sort();
        lines
    };
    let kept = format!("LD_PRELOAD={both}");
    assert_eq!(
        listed(&both, "inherit"),
        ["A=1", &kept, "SAMEPORT_CHILDREN=inherit", "SAMEPORT_SHARE=1", "Z=2"]
    );
    assert_eq!(listed(&own, "strip"), ["A=1", "Z=2"]);
    let theirs = format!("LD_PRELOAD={}", other.display());
    assert_eq!(listed(&both, "strip"), ["A=1", &theirs, "Z=2"]);
    let reversed = format!("{}:{own}", other.display());
    assert_eq!(listed(&reversed, "strip"), ["A=1", &theirs, "Z=2"]);
    // A child without the variables keeps the options that the program sets.
    let port = free_port().to_string();
    let variables = [SHARE, ("SAMEPORT_CHILDREN", "strip")];
    let got = stdout_of(User::Current, &variables, &[&*calls(), "bind", "tcp", "127.0.0.1", &port]);
    assert!(got.contains(" port=1 "), "{got}");
}

/// stdout has exactly the program's bytes, and stderr nothing.
#[test]
fn streams_are_unchanged() {
    let bytes = in_test_dir("all-bytes");
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    std::fs::write(&bytes, &all).unwrap();
    let variables = [SHARE, ("SAMEPORT_REPORT", "nobody-listens-to-this")];
    let mut command = command_for(User::Current, "cat", &[&bytes]);
    command.env("LD_PRELOAD", library()).envs(variables);
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty() && output.stdout == all);
}
