//! Filters, wrong command lines, exit codes, and failures of stdout.

use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};

use socket2::Type;

use crate::harness::relative_time::is_within_factor;
use crate::sockets::{Options, PLAIN, bound, port};
use crate::{json, sameport, serialize, text};

#[test]
fn filters_match_overlapping_addresses() {
    let _lock = serialize();
    let any4 = bound(Type::STREAM, "0.0.0.0:0", &PLAIN);
    let port = port(&any4);
    // An IPv6 socket on the same port, which does not conflict and is not on 127.0.0.1.
    let only6 = Options { v6only: Some(true), ..PLAIN };
    let _any6 = bound(Type::STREAM, &format!("[::]:{port}"), &only6);
    let both = ["0.0.0.0", "[::]"];
    let cases: [(&str, &[&str]); 7] = [
        ("", &both),
        (":", &both),
        ("127.0.0.1:", &both[..1]),
        ("127.9.9.9:", &both[..1]),
        ("[::1]:", &both[1..]),
        ("[::ffff:127.0.0.1]:", &both[..1]),
        ("localhost:", &both[..1]),
    ];
    for (host, expected) in cases {
        let listing = json(&["ls", "--tcp", &format!("{host}{port}")]);
        let found: Vec<_> = listing["groups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|group| group["address"].as_str().unwrap().to_owned())
            .filter(|at| !(host == "localhost:" && at.starts_with("[::]")))
            .collect();
        let expected: Vec<_> = expected.iter().map(|ip| format!("{ip}:{port}")).collect();
        assert_eq!(found, expected, "{host}{port}");
    }

    let udp = UdpSocket::bind("127.0.80.1:0").unwrap();
    let at = udp.local_addr().unwrap().to_string();
    let listed = |args: &[&str]| text(&sameport(args).stdout).contains(&at);
    assert!(listed(&["ls"]) && listed(&["ls", "--udp"]) && listed(&["ls", &at]));
    assert!(!listed(&["ls", "--tcp"]) && !listed(&["ls", "--tcp", &at]));
}

/// A port below 1024 that neither a test nor, as far as ss shows, another program uses.
fn unused_port() -> String {
    let listing = json(&["ls"]);
    let used: BTreeSet<String> = listing["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["address"].as_str().unwrap().rsplit(':').next().unwrap().to_owned())
        .collect();
    (2..1024).map(|port: u16| port.to_string()).find(|port| !used.contains(port)).unwrap()
}

#[test]
fn empty_list_exits_with_1() {
    let _lock = serialize();
    let port = unused_port();
    for (args, listing) in [
        (vec!["ls", &port], format!("no socket is on port {port}\n")),
        (vec!["ls", "--udp", &port], format!("no socket is on udp port {port}\n")),
        (vec!["ls", &format!("[::1]:{port}")], format!("no socket is on [::1]:{port}\n")),
    ] {
        let output = sameport(&args);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        // Before Linux 6.8 a hint says that bound sockets are missing.
        let stderr = text(&output.stderr);
        assert_eq!((text(&output.stdout), stderr.starts_with(&listing)), ("", true), "{output:?}");
        assert!(
            stderr[listing.len()..]
                .lines()
                .all(|line| line.starts_with("hint: sockets that are bound"))
        );
    }
    let output = sameport(&["ls", &port, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let listing: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&listing["version"], &listing["groups"], &listing["complete"]),
        (&1.into(), &serde_json::json!([]), &true.into())
    );
}

#[test]
fn wrong_command_line_fails_fast_with_one_line() {
    let _lock = serialize();
    let long = "9".repeat(100_000);
    let cases = [
        "0",
        "65536",
        "-1",
        "1e3",
        "0x50",
        "80 ",
        "\u{ff18}\u{ff10}",
        "",
        "localhost",
        "::1",
        "[::1]",
        "[::1]:0",
        "127.0.0.1:65536",
        "--bogus",
        &long,
    ];
    for argument in cases {
        let mut output = None;
        let version = || assert!(sameport(&["--version"]).status.success());
        let is_quick = is_within_factor(version, 50, || output = Some(sameport(&["ls", argument])));
        assert!(is_quick, "{argument:.20}: always over 50 times as long as --version");
        let output = &output.expect("the line was tried");
        let lines: Vec<_> = text(&output.stderr).lines().collect();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(text(&output.stdout), "");
        assert!(lines[0].starts_with("error: ") && lines[0].len() < 500, "{output:?}");
        assert!(lines[0].contains(argument.get(..20).unwrap_or(argument)), "{output:?}");
        assert!(lines[1..].iter().all(|line| line.starts_with("hint: ")), "{output:?}");
    }
    assert_eq!(sameport(&["ls", "--tcp", "--udp"]).status.code(), Some(2));
    assert_eq!(sameport(&["ls", "80", "81"]).status.code(), Some(2));
    assert_eq!(sameport(&["ls", "--wide", "--json"]).status.code(), Some(2));
    for network in ["", "..", "pid:", "pid:0", "pid:x", &long] {
        let output = sameport(&["ls", "--netns", network]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).starts_with("error: "), "{output:?}");
    }
    let unresolved = sameport(&["ls", "no-such-host.invalid:80"]);
    assert_eq!(unresolved.status.code(), Some(2));
    assert!(text(&unresolved.stderr).starts_with("error: no-such-host.invalid does not resolve"));
}

#[test]
fn help_begins_with_examples() {
    let _lock = serialize();
    let output = sameport(&["ls", "--help"]);
    assert!(output.status.success() && text(&output.stdout).starts_with("Examples:"), "{output:?}");
}

#[test]
fn closed_pipe_succeeds_and_full_disk_fails() {
    let _lock = serialize();
    let _somebody = TcpListener::bind("127.0.0.1:0").unwrap();
    for args in [&["ls"][..], &["ls", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let left = Command::new(env!("CARGO_BIN_EXE_sameport"))
            .env_clear()
            .args(args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(left.status.success() && !text(&left.stderr).contains("panic"), "{left:?}");

        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let full = Command::new(env!("CARGO_BIN_EXE_sameport"))
            .env_clear()
            .args(args)
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(full.status.code(), Some(1), "{full:?}");
        assert!(text(&full.stderr).starts_with("error: write to stdout: "), "{full:?}");
    }
}
