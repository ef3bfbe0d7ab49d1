//! The fields of a listed socket: processes, owner, flag, queue.

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::Value;
use socket2::Type;

use crate::harness::{self, is_root, skip};
use crate::sockets::{Options, PLAIN, SocketHolder, address, bound, port};
use crate::{NOBODY, json, sameport, serialize, text};

#[test]
fn another_user_learns_what_is_missing() {
    let _lock = serialize();
    if !is_root() {
        return skip("ls-tells-what-is-missing", "needs root");
    }
    let copy = harness::sameport();
    let lone = bound(Type::STREAM, "127.0.0.1:0", &PLAIN);
    let output = Command::new(copy)
        .env_clear()
        .args(["ls", "--tcp", &address(&lone).to_string()])
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let row: Vec<_> = text(&output.stdout).lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[2..7], ["-", "-", "root", "unknown", "0/7"], "{output:?}");
    assert!(text(&output.stderr).starts_with("hint: "), "{output:?}");
    assert!(output.status.success());
}

#[test]
fn each_process_of_a_socket_is_listed_once() {
    let _lock = serialize();
    let socket = bound(Type::STREAM, "127.0.0.1:0", &PLAIN);
    let _twin = socket.try_clone().unwrap();
    let heirs: Vec<_> = (0..5).map(|_| SocketHolder::of(&socket, None)).collect();
    let mut pids: Vec<u32> = heirs.iter().map(|heir| heir.0.id()).collect();
    pids.push(std::process::id());
    pids.sort_unstable();

    let listing = json(&["ls", "--tcp", &port(&socket)]);
    assert_eq!(listing["groups"][0]["members"].as_array().unwrap().len(), 1, "{listing}");
    assert_eq!(listing["groups"][0]["members"][0]["pids"], serde_json::json!(pids));

    let output = sameport(&["ls", "--tcp", &port(&socket)]);
    // A pipe gets all of them; a terminal four.
    let all: Vec<String> = pids.iter().map(u32::to_string).collect();
    assert!(text(&output.stdout).contains(&format!(" {}  ", all.join(","))), "{output:?}");
}

#[test]
fn shared_flag_is_read_or_inferred() {
    let _lock = serialize();
    let shared = Options { shared: true, ..PLAIN };
    let lone = bound(Type::STREAM, "127.0.0.1:0", &shared);
    let closed = bound(Type::STREAM, "127.0.0.1:0", &PLAIN);
    let datagrams = bound(Type::DGRAM, "127.0.0.1:0", &shared);
    let first = bound(Type::STREAM, "127.0.0.1:0", &shared);
    let second = bound(Type::STREAM, &address(&first).to_string(), &shared);
    for (socket, kind, readable, inferred) in [
        (&lone, "--tcp", true, None),
        (&closed, "--tcp", false, None),
        (&datagrams, "--udp", true, None),
        (&first, "--tcp", true, Some(true)),
        (&second, "--tcp", true, Some(true)),
    ] {
        let listing = json(&["ls", kind, &address(socket).to_string()]);
        for member in listing["groups"][0]["members"].as_array().unwrap() {
            // Only root can read the flag of every process. For other users Yama decides.
            let fits = member["shared"] == readable
                || (!is_root() && member["shared"] == Value::from(inferred));
            assert!(fits, "{listing}");
        }
    }
}

#[test]
fn queues_are_counted() {
    let _lock = serialize();
    let tcp = bound(Type::STREAM, "127.0.0.1:0", &PLAIN);
    let _waiting = [(); 2].map(|()| std::net::TcpStream::connect(address(&tcp)).unwrap());
    let listing = json(&["ls", "--tcp", &address(&tcp).to_string()]);
    let member = &listing["groups"][0]["members"][0];
    assert_eq!((&member["queue"], &member["backlog"]), (&2.into(), &7.into()), "{listing}");

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = udp.local_addr().unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hello", at).unwrap();
    let listing = json(&["ls", "--udp", &at.to_string()]);
    let member = &listing["groups"][0]["members"][0];
    assert!(member["queue"].as_u64().unwrap() >= 5 && member["backlog"].is_null(), "{listing}");
}

#[test]
fn json_has_the_documented_fields() {
    let _lock = serialize();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let listing = json(&["ls", "--tcp", &at.to_string()]);
    let keys = |value: &Value| -> Vec<String> {
        let map: BTreeMap<String, Value> = serde_json::from_value(value.clone()).unwrap();
        map.into_keys().collect()
    };
    assert_eq!(keys(&listing), ["bound_complete", "complete", "groups", "iterated", "version"]);
    assert_eq!(listing["version"], 1);
    let group = &listing["groups"][0];
    assert_eq!(keys(group), ["address", "device", "members", "proto", "v6only"]);
    assert_eq!((&group["proto"], &group["address"]), (&"tcp".into(), &at.to_string().into()));
    let member = &group["members"][0];
    let promised = [
        "attached",
        "backlog",
        "cgroup",
        "container",
        "cookie",
        "drops",
        "freebind",
        "holder",
        "inode",
        "options",
        "pids",
        "position",
        "private",
        "processes",
        "program",
        "queue",
        "shared",
        "state",
        "transparent",
        "uid",
        "unit",
        "user",
    ];
    assert_eq!(keys(member), promised);
    assert_eq!(member["pids"], serde_json::json!([std::process::id()]));
    let process = [
        "cgroup",
        "command",
        "directory",
        "executable",
        "parent",
        "pid",
        "program",
        "started",
        "uid",
    ];
    assert_eq!(keys(&member["processes"][0]), process);
}
