//! Bad input and missing rights: one line, nothing attached.

use crate::room::{Room, top};
use crate::stage::{self, User, start};

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let Some(room) = Room::new("cgroup-refusals") else { return };
    let path = room.path();
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
        (&[], 2, "--unit"),
    ];
    for (arguments, code, named) in cases {
        let words: Vec<&str> = ["attach"].iter().chain(*arguments).copied().collect();
        let ended = start(User::Ourselves, &words).ended();
        assert_eq!(ended.code, *code, "{words:?}: {ended:?}");
        let lines: Vec<_> = ended.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{words:?}: {ended:?}");
        assert!(lines[0].starts_with("error: ") && lines[0].contains(named), "{ended:?}");
        assert!(lines[1].starts_with("hint: ") && ended.stdout.is_empty(), "{ended:?}");
    }
    assert_eq!(room.detach().code, 1, "something was attached");
}

#[test]
fn a_cgroup_of_version_1_is_named_as_such() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let version1 = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup"));
    let Some(path) = version1.and_then(|line| line.split(' ').nth(1)) else {
        return stage::skip("cgroup-version-1", "only cgroup v2 is mounted");
    };
    if top().is_none() {
        return stage::skip("cgroup-version-1", "cgroup v2 is not mounted");
    }
    for verb in ["attach", "detach"] {
        let ended = start(User::Ourselves, &[verb, "--cgroup", path]).ended();
        assert_eq!(ended.code, 2, "{ended:?}");
        let expected = format!("error: {path} is a cgroup of version 1\nhint: ");
        assert!(ended.stderr.starts_with(&expected), "{ended:?}");
    }
}

#[test]
fn without_root_it_says_what_is_needed() {
    let Some(room) = Room::new("cgroup-no-root") else { return };
    let path = room.path();
    for attached in [false, true] {
        if attached {
            assert_eq!(room.attach(&[]).code, 0);
        }
        let lines: [&[&str]; 2] = [&["attach", "--cgroup", &path], &["attach", "--unit", "x"]];
        for words in lines {
            let ended = start(User::Another, words).ended();
            let expected = if words.contains(&"--unit") { 2 } else { 3 };
            assert_eq!(ended.code, expected, "{words:?}: {ended:?}");
        }
        let ended = start(User::Another, &["attach", "--cgroup", &path]).ended();
        assert_eq!(ended.stderr.lines().count(), 2, "{ended:?}");
        let hint = "hint: this needs root, or CAP_BPF and CAP_NET_ADMIN";
        assert!(ended.stderr.contains(hint), "{ended:?}");
    }
    for words in [&["detach", "--cgroup", &path][..], &["detach", "--all"], &["attach", "--list"]] {
        let ended = start(User::Another, words).ended();
        assert_eq!(ended.code, 3, "{words:?}: {ended:?}");
    }
    assert_eq!(room.detach().code, 0, "another user has detached it");
}
