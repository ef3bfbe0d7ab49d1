//! `--map` and `--source`, observed by getsockname(2) and by the peer.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use crate::fixture::{TestCgroup, binds_program};
use crate::harness::{ask, free_port};

#[test]
fn binds_follow_the_map() {
    let Some(cgroup) = TestCgroup::new("cgroup-map") else { return };
    let (to, other) = (free_port(), free_port());
    let cgroup = cgroup.attached(&[
        "--map",
        &format!("80={to}"),
        "--map",
        &format!("udp:80=127.0.0.2:{to}"),
        "--map",
        "127.0.0.3=127.0.0.4",
        "--map",
        &format!("127.0.0.3:80=127.0.0.5:{to}"),
        "--map",
        &format!("[::]:443=[::1]:{to}"),
        "--map",
        &format!("444=127.0.0.1:{to}"),
        "--map",
        &format!("445=[::1]:{to}"),
        "--map",
        &format!("446=[::ffff:127.0.0.9]:{to}"),
        "--map",
        &format!("[::]:447=127.0.0.1:{to}"),
    ]);
    let cases = [
        // Per case: the requested address, then the bound address or the errno.
        ("tcp 127.0.0.1 80", Ok(format!("127.0.0.1 {to}"))),
        ("tcp :: 80", Ok(format!(":: {to}"))),
        ("udp 127.0.0.1 80", Ok(format!("127.0.0.2 {to}"))),
        ("udp :: 80", Ok(format!("::ffff:127.0.0.2 {to}"))),
        ("tcp 127.0.0.3 80", Ok(format!("127.0.0.5 {to}"))),
        ("udp 127.0.0.3 80", Ok(format!("127.0.0.5 {to}"))),
        ("tcp ::ffff:127.0.0.3 80", Ok(format!("::ffff:127.0.0.5 {to}"))),
        (&*format!("tcp 127.0.0.3 {other}"), Ok(format!("127.0.0.4 {other}"))),
        ("tcp :: 443", Ok(format!("::1 {to}"))),
        ("udp :: 443 v6only", Ok(format!("::1 {to}"))),
        ("tcp 127.0.0.1 444", Ok(format!("127.0.0.1 {to}"))),
        ("tcp :: 444", Ok(format!("::ffff:127.0.0.1 {to}"))),
        // A rule for a port of any address is for both families.
        ("tcp :: 444 v6only", Ok(format!("::1 {to}"))),
        ("tcp ::1 444", Ok(format!("::1 {to}"))),
        ("tcp 127.0.0.1 445", Ok(format!("127.0.0.1 {to}"))),
        ("tcp ::1 445", Ok(format!("::1 {to}"))),
        // No counterpart: an IPv4 address as IPv6, and a rule for one address.
        ("tcp 127.0.0.1 446", Err(libc::EAFNOSUPPORT)),
        ("tcp :: 447 v6only", Err(libc::EAFNOSUPPORT)),
        (&*format!("tcp 127.0.0.1 {other}"), Ok(format!("127.0.0.1 {other}"))),
    ];
    for (words, expected) in cases {
        let result = cgroup.bind_result(&format!("bind {words}"));
        let expected = match expected {
            Ok(given) => format!("given {given} reuseaddr=0 reuseport=1"),
            Err(errno) => format!("refused bind {errno}"),
        };
        assert_eq!(result, expected, "{words}");
    }
    // Port 0 is not mapped.
    let result = cgroup.bind_result("bind tcp 127.0.0.3 0");
    assert!(result.starts_with("given 127.0.0.4 ") && result.ends_with("reuseport=0"), "{result}");
    let result = cgroup.bind_result("bind tcp 127.0.0.1 0");
    assert!(result.starts_with("given 127.0.0.1 ") && result.ends_with("reuseport=0"), "{result}");
}

#[test]
fn peers_reach_the_mapped_address() {
    let Some(cgroup) = TestCgroup::new("cgroup-map-peer") else { return };
    let (from, to) = (free_port().to_string(), free_port().to_string());
    let cgroup = cgroup.attached(&["--map", &format!("{from}=127.0.0.1:{to}")]);
    let words = ["bind", "tcp", "::", &from, "listen"];
    let copies = [(); 2].map(|()| cgroup.start(binds_program(), &words));
    for copy in &copies {
        copy.wait_for_stdout(&format!("given ::ffff:127.0.0.1 {to} "));
    }
    let answer = ask(format!("127.0.0.1:{to}").parse().unwrap(), b"").unwrap();
    let pid: i32 = String::from_utf8(answer).unwrap().trim().parse().unwrap();
    assert!(copies.iter().any(|copy| copy.pid() == pid), "{pid}");
    assert!(ask(format!("127.0.0.1:{from}").parse().unwrap(), b"").is_err());
}

#[test]
fn mapped_low_port_needs_privilege() {
    let Some(cgroup) = TestCgroup::new("cgroup-map-low") else { return };
    let to = free_port();
    let cgroup =
        cgroup.attached(&["--map", &format!("80={to}"), "--map", &format!("{}=81", to + 1)]);
    let start = |port: &str| {
        let words = ["bind", "tcp", "127.0.0.1", port];
        let user = crate::harness::User::Nobody;
        let command = cgroup.command(user, binds_program(), &words);
        crate::harness::spawn_process(command).wait().stdout
    };
    assert!(start("80").starts_with(&format!("given 127.0.0.1 {to} ")));
    assert_eq!(start(&(to + 1).to_string()), format!("refused bind {}\n", libc::EACCES));
}

/// The source address of a connection or datagram of this kind, as the peer sees it.
fn source_seen_by_peer(
    cgroup: &TestCgroup,
    kind: &str,
    own: &str,
    bound: &str,
) -> (String, String) {
    let wait = Some(Duration::from_secs(100));
    if kind.starts_with("tcp") {
        let listener = TcpListener::bind((own, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let result = cgroup.bind_result(format!("send tcp {own} {port} {bound}").trim_end());
        listener.set_nonblocking(true).unwrap();
        let peer = listener.accept().map_or("nobody".into(), |(_, peer)| peer.to_string());
        (result, peer)
    } else {
        let socket = UdpSocket::bind((own, 0)).unwrap();
        socket.set_read_timeout(wait).unwrap();
        let port = socket.local_addr().unwrap().port();
        let result = cgroup.bind_result(format!("send {kind} {own} {port} {bound}").trim_end());
        let (_, peer) = socket.recv_from(&mut [0; 8]).unwrap();
        (result, peer.to_string())
    }
}

#[test]
fn connections_and_datagrams_use_the_source() {
    let Some(cgroup) = TestCgroup::new("cgroup-source") else { return };
    let cgroup = cgroup.attached(&["--source", "127.0.0.9"]);
    for kind in ["tcp", "udp", "datagram"] {
        let (result, peer) = source_seen_by_peer(&cgroup, kind, "127.0.0.1", "");
        assert!(peer.starts_with("127.0.0.9:"), "{kind}: {peer}");
        if kind != "datagram" {
            // getsockname(2) shows the source too.
            assert!(
                result.starts_with(&format!("given {} ", peer.replace(':', " "))),
                "{result} {peer}"
            );
        }
        // A source does not apply to a socket that the program has bound, even to a wildcard with a
        // port.
        let (_, peer) = source_seen_by_peer(&cgroup, kind, "127.0.0.1", "127.0.0.2 0");
        assert!(peer.starts_with("127.0.0.2:"), "{kind}: {peer}");
        let port = free_port();
        let (_, peer) = source_seen_by_peer(&cgroup, kind, "127.0.0.1", &format!("0.0.0.0 {port}"));
        assert_eq!(peer, format!("127.0.0.1:{port}"), "{kind}");
        // The source has another family.
        let (_, peer) = source_seen_by_peer(&cgroup, kind, "::1", "");
        assert!(peer.starts_with("[::1]:"), "{kind}: {peer}");
    }
    // An IPv6 socket with an IPv4 peer.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let result = cgroup.bind_result(&format!("send tcp ::ffff:127.0.0.1 {port}"));
    assert!(result.starts_with("given ::ffff:127.0.0.9 "), "{result}");
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "127.0.0.9");
    drop(cgroup.detach());
    let (_, peer) = source_seen_by_peer(&cgroup, "tcp", "127.0.0.1", "");
    assert!(peer.starts_with("127.0.0.1:"), "{peer}");
}

#[test]
fn fixed_source_port_serves_several_destinations() {
    let Some(cgroup) = TestCgroup::new("cgroup-source-port") else { return };
    let from = free_port();
    let cgroup = cgroup.attached(&["--source", &format!("[::1]:{from}")]);
    // Connections to different destinations, open at the same time.
    let listeners = [(); 2].map(|()| TcpListener::bind("[::1]:0").unwrap());
    for listener in &listeners {
        let port = listener.local_addr().unwrap().port();
        let result = cgroup.bind_result(&format!("send tcp ::1 {port}"));
        assert_eq!(result, format!("given ::1 {from} reuseaddr=0 reuseport=1"));
        assert_eq!(listener.accept().unwrap().1.to_string(), format!("[::1]:{from}"));
    }
    let (_, peer) = source_seen_by_peer(&cgroup, "udp", "::1", "");
    assert_eq!(peer, format!("[::1]:{from}"));
}

#[test]
fn applied_rules_are_counted() {
    let Some(cgroup) = TestCgroup::new("cgroup-counts") else { return };
    let (from, to, never) = (free_port(), free_port(), free_port());
    let map = [format!("{from}={to}"), format!("{never}={to}")];
    let cgroup = cgroup.attached(&["--map", &map[0], "--map", &map[1], "--source", "127.0.0.9"]);
    for _ in 0..3 {
        cgroup.bind_result(&format!("bind tcp 127.0.0.1 {from}"));
    }
    cgroup.bind_result(&format!("bind tcp 127.0.0.1 {to} rp"));
    source_seen_by_peer(&cgroup, "tcp", "127.0.0.1", "");
    let exited =
        crate::harness::start(crate::harness::User::Current, &["attach", "--list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&exited.wait().stdout).unwrap();
    let attachments = list["attachments"].as_array().unwrap();
    let ours = attachments.iter().find(|one| one["cgroup"] == cgroup.path()).unwrap();
    assert_eq!(ours["shared"], 3, "{ours}");
    assert_eq!(ours["sourced"], 1, "{ours}");
    let expected = serde_json::json!([
        { "map": map[0], "matched": 3 },
        { "map": map[1], "matched": 0 },
    ]);
    assert_eq!(ours["maps"], expected);
    assert_eq!((&ours["exists"], &ours["source"]), (&true.into(), &"127.0.0.9:0".into()));
    assert_eq!(ours["source_refused"], 0, "{ours}");
}

#[test]
fn failed_sources_are_counted() {
    let Some(cgroup) = TestCgroup::new("cgroup-source-refused") else { return };
    let cgroup = cgroup.attached(&["--source", "127.0.0.9:81"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let words = ["send", "tcp", "127.0.0.1", &port];
    let command = cgroup.command(crate::harness::User::Nobody, binds_program(), &words);
    let result = crate::harness::spawn_process(command).wait().stdout;
    assert_eq!(result, format!("refused connect {}\n", libc::EACCES));
    let list = |words: &[&str]| {
        let exited = crate::harness::start(crate::harness::User::Current, words).wait();
        assert_eq!(exited.code, 0, "{exited:?}");
        exited.stdout
    };
    let listing: serde_json::Value =
        serde_json::from_str(&list(&["attach", "--list", "--json"])).unwrap();
    let attachments = listing["attachments"].as_array().unwrap();
    let ours = attachments.iter().find(|one| one["cgroup"] == cgroup.path()).unwrap();
    assert_eq!((&ours["sourced"], &ours["source_refused"]), (&0.into(), &1.into()), "{ours}");
    let table = list(&["attach", "--list"]);
    let row = table.lines().find(|line| line.starts_with(&cgroup.path())).unwrap();
    assert!(row.ends_with("  127.0.0.9:81 (0, 1 refused)"), "{row}");
}
