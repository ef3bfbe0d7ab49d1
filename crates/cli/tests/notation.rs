//! One notation for a port: every verb accepts what any verb prints.
#![cfg(target_os = "linux")]

#[path = "harness/mod.rs"]
mod harness;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use harness::{Exited, User, free_port, start, start_run};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

fn bound(kind: Type, at: &str, v6only: bool, device: Option<&str>) -> Socket {
    let at: SocketAddr = at.parse().unwrap();
    let socket = Socket::new(Domain::for_address(at), kind, None).unwrap();
    if at.is_ipv6() {
        socket.set_only_v6(v6only).unwrap();
    }
    if device.is_some() {
        socket.bind_device(device.map(str::as_bytes)).unwrap();
    }
    socket.bind(&at.into()).unwrap();
    if kind == Type::STREAM {
        socket.listen(8).unwrap();
    }
    socket
}

/// Sockets of every form on one port.
fn sockets(port: u16) -> Vec<Socket> {
    let at = |ip: &str| format!("{ip}:{port}");
    vec![
        bound(Type::STREAM, &at("127.0.0.1"), false, None),
        bound(Type::STREAM, &at("[::1]"), true, None),
        bound(Type::STREAM, &at("127.0.0.2"), false, Some("lo")),
        bound(Type::DGRAM, &at("[::]"), false, Some("lo")),
        bound(Type::STREAM, &at("127.0.0.3"), false, None),
    ]
}

fn run(words: &[&str]) -> Exited {
    start(User::Current, words).wait()
}

fn json(words: &[&str]) -> Value {
    let exited = run(&[words, &["--json"]].concat());
    serde_json::from_str(&exited.stdout).unwrap_or_else(|error| panic!("{error}: {exited:?}"))
}

/// The protocol and the address of each row of `ls`.
fn rows(exited: &Exited) -> BTreeSet<(String, String)> {
    let words = exited.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let sockets = words.filter(|words| ["tcp", "udp"].contains(&words[0]));
    sockets.map(|words| (words[0].to_owned(), words[1].to_owned())).collect()
}

/// Every form in which a verb prints these sockets.
fn printed_forms(port: u16) -> BTreeSet<String> {
    let mut forms = BTreeSet::new();
    for (protocol, address) in rows(&run(&["ls", &port.to_string()])) {
        forms.insert(format!("{address}/{protocol}"));
        forms.insert(address);
    }
    let listing = json(&["ls", &port.to_string()]);
    for group in listing["groups"].as_array().unwrap() {
        forms.insert(group["address"].as_str().unwrap().to_owned());
    }
    for protocol in ["tcp", "udp"] {
        let question = format!("{port}/{protocol}");
        let answer = run(&["why", &question]);
        forms.insert(answer.stdout.split_whitespace().nth(1).unwrap().to_owned());
        let found = json(&["why", &question]);
        forms.insert(found["answers"][0]["address"].as_str().unwrap().to_owned());
        // The place of a finding of `audit`, and the port of `guard --list`.
        forms.insert(question);
    }
    forms
}

#[test]
fn every_verb_accepts_what_any_verb_prints() {
    let port = free_port();
    let _sockets = sockets(port);
    let forms = printed_forms(port);
    for expected in ["127.0.0.2%lo:", "*%lo:", "[::1]:", "*:"] {
        assert!(forms.iter().any(|form| form.starts_with(expected)), "{expected}: {forms:?}");
    }
    for form in &forms {
        for verb in [&["ls"][..], &["why"], &["audit"], &["guard", "--off"]] {
            let exited = run(&[verb, &[form.as_str()]].concat());
            assert_ne!(exited.code, 2, "{verb:?} {form}: {exited:?}");
        }
    }
}

#[test]
fn an_address_with_its_protocol_finds_its_socket() {
    let port = free_port();
    let _sockets = sockets(port);
    let all = rows(&run(&["ls", &port.to_string()]));
    assert_eq!(all.len(), 5, "{all:?}");
    for (protocol, address) in &all {
        let found = rows(&run(&["ls", &format!("{address}/{protocol}")]));
        assert!(found.contains(&(protocol.clone(), address.clone())), "{address}: {found:?}");
        assert!(found.iter().all(|(of, _)| of == protocol), "{address}: {found:?}");
        let answer = run(&["why", &format!("{address}/{protocol}")]).stdout;
        let headline = answer.lines().next().unwrap_or_default();
        assert!(headline.contains(&format!(" {address}/{protocol} ")), "{headline}");
    }
    let udp = rows(&run(&["ls", &format!("{port}/udp")]));
    assert_eq!(udp, rows(&run(&["ls", "--udp", &port.to_string()])));
    assert_eq!(udp.len(), 1);
    let only = rows(&run(&["ls", &format!("127.0.0.3:{port}")]));
    assert_eq!(only.len(), 2, "the socket, and the one that receives its datagrams: {only:?}");
    assert_eq!(
        run(&["why", &format!("127.0.0.3:{port}/udp")]).stdout,
        run(&["why", "--udp", &format!("127.0.0.3:{port}")]).stdout
    );
}

#[test]
fn a_contradiction_is_a_wrong_command_line() {
    let cases: [&[&str]; 10] = [
        &["ls", "--tcp", "9101/udp"],
        &["ls", "--udp", "9101/tcp"],
        &["why", "--udp", "9101/tcp"],
        &["why", "--no-reuse-address", "9101/udp"],
        &["why", "--device", "eth1", "*%eth0:9101"],
        &["listen", "--udp", "9101/tcp"],
        &["listen", "*%lo:9101"],
        &["dial", "--udp", "127.0.0.1:9101/tcp"],
        &["dial", "--from", "9102/udp", "127.0.0.1:9101"],
        &["audit", "9101/sctp"],
    ];
    for words in cases {
        let exited = run(words);
        assert_eq!((exited.code, &*exited.stdout), (2, ""), "{words:?}: {exited:?}");
        assert!(exited.stderr.contains("\nhint: "), "{words:?}: {exited:?}");
    }
    for options in [["--listen", "9101/udp"], ["--listen", "*%lo:9101"], ["--expect", "*%lo:9101"]]
    {
        let options = [&["--name", "notation"][..], &options].concat();
        let exited = start_run(User::Current, &options, &["true"]).wait();
        assert_eq!((exited.code, &*exited.stdout), (2, ""), "{options:?}: {exited:?}");
    }
}

#[test]
fn a_protocol_selects_the_kind_of_socket() {
    let port = free_port();
    let server = start(User::Current, &["listen", &format!("127.0.0.1:{port}/udp")]);
    server.wait_for_stdout(&port.to_string());
    let found = rows(&run(&["ls", &port.to_string()]));
    assert_eq!(found, BTreeSet::from([("udp".to_owned(), format!("127.0.0.1:{port}"))]));
    let client = start(User::Current, &["dial", &format!("127.0.0.1:{port}/udp")]);
    assert_eq!(client.wait().code, 0);
    server.terminate();
}

/// Binds a port twice, as TCP and UDP, and prints whether each socket is shared.
const BOTH: &str = "\
import socket, sys
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    it = socket.socket(socket.AF_INET, kind)
    it.bind(('127.0.0.1', int(sys.argv[1])))
    if kind == socket.SOCK_STREAM: it.listen()
    print(it.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT), it.getsockname()[1])
";

/// `--port` and `--map` take a port as sameport prints it, with its protocol.
#[test]
fn options_are_for_one_protocol() {
    let Some(python) = harness::find_program("python3") else {
        return harness::skip("map-notation", "no python3");
    };
    let python = python.to_str().unwrap();
    for via in ["seccomp", "preload", "cgroup"] {
        if via == "cgroup" && !harness::is_root() {
            continue;
        }
        let (old, new) = (free_port(), free_port());
        let tcp = (format!("{old}/tcp"), format!("1 {old}\n0 {old}\n"));
        let udp = (format!("{old}/udp"), format!("0 {old}\n1 {old}\n"));
        let both = (old.to_string(), format!("1 {old}\n1 {old}\n"));
        for (port, expected) in [tcp, udp, both] {
            let options = ["--via", via, "--port", &port];
            let command = [python, "-c", BOTH, &old.to_string()];
            let exited = start_run(User::Current, &options, &command).wait();
            assert_eq!(exited.stdout, expected, "{via} {port}: {exited:?}");
        }
        for rule in [
            format!("{old}/udp={new}"),
            format!("{old}/udp={new}/udp"),
            format!("127.0.0.1:{old}/udp=127.0.0.1:{new}"),
        ] {
            let options = ["--via", via, "--map", &rule];
            let command = [python, "-c", BOTH, &old.to_string()];
            let exited = start_run(User::Current, &options, &command).wait();
            assert_eq!(exited.stdout, format!("1 {old}\n1 {new}\n"), "{via} {rule}: {exited:?}");
        }
        if via != "cgroup" {
            let options = ["--via", via, "-n", "2", "--each", &format!("{old}/udp")];
            let command = [python, "-c", BOTH, &old.to_string()];
            let exited = start_run(User::Current, &options, &command).wait();
            let count = |port| exited.stdout.matches(&format!("1 {port}\n")).count();
            assert_eq!((count(old), count(old + 1)), (3, 1), "{via}: {exited:?}");
        }
    }
}
