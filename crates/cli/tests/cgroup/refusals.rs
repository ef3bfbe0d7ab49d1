//! Wrong command lines and missing rights: one line, nothing attached.

use crate::fixture::TestCgroup;
use crate::harness::{self, User, cgroup2_mount, start};

#[test]
fn wrong_targets_are_refused_in_one_line() {
    let Some(cgroup) = TestCgroup::new("cgroup-refusals") else { return };
    let path = cgroup.path();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--cgroup", "/no-such-cgroup"], 2, "there is no cgroup /no-such-cgroup"),
        (&["--cgroup", "/etc"], 2, "/etc is not a cgroup"),
        (&["--cgroup", "/etc/passwd"], 2, "/etc/passwd is not a cgroup"),
        (&["--cgroup", ""], 2, "--cgroup"),
        (&["--unit", "no-such-unit"], 2, "unit no-such-unit.service is not running"),
        (&["--unit", "a/b"], 2, "a/b is not the name of a unit"),
        (&["--unit", ""], 2, "is not the name of a unit"),
        (&["--unit", "../x"], 2, "../x is not the name of a unit"),
        (
            &["--cgroup", &path, "--map", "80=81", "--map", "80=82"],
            2,
            "--map 80=82: contradicts --map 80=81",
        ),
        (&["--cgroup", &path, "--map", "80=80"], 2, "both sides are the same"),
        (&["--cgroup", &path, "--map", "127.0.0.1=[::1]"], 2, "an IPv4 socket cannot"),
        (
            &["--cgroup", &path, "--map", "80=192.0.2.1:80"],
            3,
            "192.0.2.1 is not an address of this machine",
        ),
        (
            &["--cgroup", &path, "--source", "192.0.2.1"],
            3,
            "192.0.2.1 is not an address of this machine",
        ),
        (&["--cgroup", &path, "--source", "0.0.0.0"], 2, "write ADDR or ADDR:PORT"),
        (&["--cgroup", &path, "--source", "80"], 2, "write ADDR or ADDR:PORT"),
        (&["--cgroup", &path, "--port", "0"], 2, "--port"),
        (&["--cgroup", &path, "--json"], 2, "--json"),
        (&["--cgroup", &path, "--list"], 2, "--list"),
        (&["--cgroup", &path, "--unit", "x"], 2, "--unit"),
        (&["--cgroup", &path, "--permanent"], 2, "--permanent"),
        (&["--unit", "x", "--once", "--permanent"], 2, "--permanent"),
        (&[], 2, "--unit"),
    ];
    for (arguments, code, named) in cases {
        let words: Vec<&str> = ["attach"].iter().chain(*arguments).copied().collect();
        let exited = start(User::Current, &words).wait();
        assert_eq!(exited.code, *code, "{words:?}: {exited:?}");
        let lines: Vec<_> = exited.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{words:?}: {exited:?}");
        assert!(lines[0].starts_with("error: ") && lines[0].contains(named), "{exited:?}");
        assert!(lines[1].starts_with("hint: ") && exited.stdout.is_empty(), "{exited:?}");
    }
    assert_eq!(cgroup.detach().code, 1, "something was attached");
}

#[test]
fn cgroup_v1_is_named_in_the_refusal() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let version1 = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup"));
    let Some(path) = version1.and_then(|line| line.split(' ').nth(1)) else {
        return harness::skip("cgroup-version-1", "only cgroup v2 is mounted");
    };
    if cgroup2_mount().is_none() {
        return harness::skip("cgroup-version-1", "cgroup v2 is not mounted");
    }
    for verb in ["attach", "detach"] {
        let exited = start(User::Current, &[verb, "--cgroup", path]).wait();
        assert_eq!(exited.code, 2, "{exited:?}");
        let expected = format!("error: {path} is a cgroup of version 1\nhint: ");
        assert!(exited.stderr.starts_with(&expected), "{exited:?}");
    }
}

#[test]
fn without_root_the_refusal_names_the_capabilities() {
    let Some(cgroup) = TestCgroup::new("cgroup-no-root") else { return };
    let path = cgroup.path();
    for attached in [false, true] {
        if attached {
            assert_eq!(cgroup.attach(&[]).code, 0);
        }
        let lines: [&[&str]; 2] = [&["attach", "--cgroup", &path], &["attach", "--unit", "x"]];
        for words in lines {
            let exited = start(User::Nobody, words).wait();
            let expected = if words.contains(&"--unit") { 2 } else { 3 };
            assert_eq!(exited.code, expected, "{words:?}: {exited:?}");
        }
        let exited = start(User::Nobody, &["attach", "--cgroup", &path]).wait();
        assert_eq!(exited.stderr.lines().count(), 2, "{exited:?}");
        let hint = "hint: this needs root, or CAP_BPF and CAP_NET_ADMIN";
        assert!(exited.stderr.contains(hint), "{exited:?}");
    }
    for words in [&["detach", "--cgroup", &path][..], &["detach", "--all"], &["attach", "--list"]] {
        let exited = start(User::Nobody, words).wait();
        assert_eq!(exited.code, 3, "{words:?}: {exited:?}");
    }
    assert_eq!(cgroup.detach().code, 0, "another user has detached it");
}
