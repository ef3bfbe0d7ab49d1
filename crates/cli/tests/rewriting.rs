//! `run --map`, `--source`, `--transparent`, observed at the peer.
#![cfg(target_os = "linux")]

mod harness;

use std::net::{SocketAddr, TcpListener, UdpSocket};

use harness::{SOCKET_TIMEOUT, TIMEOUT, User, ask, c_program, free_port, start_run};

fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// Per case: the requested address, the rule, and the address that answers, with `ASKED` and
/// `GIVEN` for the ports.
const MOVES: [(&str, &str, &str); 8] = [
    ("0.0.0.0", "ASKED=GIVEN", "127.0.0.1"),
    ("0.0.0.0", "ASKED=127.0.0.2:GIVEN", "127.0.0.2"),
    ("127.0.0.1", "127.0.0.1=127.0.0.3", "127.0.0.3"),
    ("127.0.0.1", "127.0.0.1:ASKED=127.0.0.4:GIVEN", "127.0.0.4"),
    ("::", "ASKED=GIVEN", "::1"),
    ("::", "[::]:ASKED=[::1]:GIVEN", "::1"),
    ("::", "ASKED=127.0.0.5:GIVEN", "127.0.0.5"),
    ("::1", "[::1]:ASKED=GIVEN", "::1"),
];

#[test]
fn tcp_binds_are_mapped_and_shared() {
    let who = c_program("who", &["-static"]);
    for user in User::all() {
        for (asked, rule, given) in MOVES {
            let ports = (free_port(), free_port());
            let rule = rule.replace("ASKED", &ports.0.to_string());
            let moves_port = rule.contains("GIVEN");
            let rule = rule.replace("GIVEN", &ports.1.to_string());
            let port = if moves_port { ports.1 } else { ports.0 };
            let command = [who.to_str().unwrap(), "tcp", asked, &ports.0.to_string()];

            let first = start_run(*user, &["--map", &rule], &command);
            harness::wait_until_answering(address(given, port));
            let second = start_run(*user, &["--map", &rule], &command);
            second.wait_for_stderr(" is now shared by 2: pid ");
            if port != ports.0 {
                let old = ask(address(given, ports.0), b"");
                assert!(old.is_err(), "{rule}: the asked port answers too: {old:?}");
            }
            for run in [first, second] {
                let exited = run.terminate();
                assert!(!exited.stderr.contains("never used"), "{rule}: {exited:?}");
            }
        }
    }
}

#[test]
fn udp_binds_are_mapped() {
    let who = c_program("who", &[]);
    for (asked, given) in [("0.0.0.0", "127.0.0.2"), ("::1", "::1")] {
        let (old, new) = (free_port(), free_port());
        let bracketed = if given.contains(':') { format!("[{given}]") } else { given.to_owned() };
        let rule = format!("udp:{old}={bracketed}:{new}");
        let command = [who.to_str().unwrap(), "udp", asked, &old.to_string()];
        let run = start_run(User::Current, &["--map", &rule], &command);
        let socket = UdpSocket::bind(address(given, 0)).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        let answer = harness::eventually(|| {
            socket.send_to(b"?", address(given, new)).ok()?;
            let mut buffer = [0; 64];
            socket.recv_from(&mut buffer).ok()
        });
        assert_eq!(answer.map(|(_, from)| from), Some(address(given, new)), "{}", run.stderr());
    }
}

#[test]
fn failed_rules_are_reported() {
    let who = c_program("who", &[]);
    let (old, new) = (free_port(), free_port());
    let who = who.to_str().unwrap();

    let command = [who, "tcp", "0.0.0.0", &old.to_string()];
    // An address of one machine only, which has no counterpart in the other family.
    let rule = format!("{old}=[::ffff:127.0.0.9]:{new}");
    let exited = start_run(User::Current, &["--map", &rule], &command);
    let exited = exited.wait();
    assert_eq!(exited.code, 1);
    assert!(exited.stderr.contains("bind: Address family not supported by protocol\n"));
    let message = format!("error: --map {rule}: the program's socket for 0.0.0.0:{old} ");
    assert!(exited.stderr.contains(&message), "{exited:?}");
    let own = format!("0.0.0.0:{old}=127.0.0.1:{new}");
    let hint = format!("give a rule for each: --map '{rule}' --map {own}\n");
    assert!(exited.stderr.contains(&hint), "{exited:?}");
    let advised = start_run(User::Current, &["--map", &rule, "--map", &own], &command);
    harness::wait_until_answering(address("127.0.0.1", new));
    drop(advised);

    let run = start_run(User::Current, &["--map", &format!("{old}=[::1]:{new}")], &command);
    harness::wait_until_answering(address("127.0.0.1", new));
    let note = format!("socket for 0.0.0.0:{old} has the other family, and gets 127.0.0.1:{new}\n");
    run.wait_for_stderr(&note);
    drop(run);

    let command = [who, "tcp", "::", &old.to_string()];
    let run = start_run(User::Current, &["--map", &format!("{old}=127.0.0.2:{new}")], &command);
    run.wait_for_stderr("note: the program asked for IPv4 and IPv6 on port ");
    drop(run);

    let unused = start_run(User::Current, &["--map", "5=6", "--source", "127.0.0.9"], &["true"]);
    let exited = unused.wait();
    assert_eq!(exited.code, 0);
    assert!(exited.stderr.contains("warning: --map 5=6 was never used"), "{exited:?}");
    assert!(exited.stderr.contains("warning: --source 127.0.0.9 was never used"), "{exited:?}");
}

/// Debian's nginx listens on `80` and on `[::]:80`, which refuses IPv4. A rule for the port moves both.
#[test]
fn nginx_of_both_families_is_moved() {
    let Some(nginx) = harness::find_program("nginx") else {
        return harness::skip("map-nginx", "no nginx");
    };
    for via in ["seccomp", "preload", "cgroup"] {
        if via == "cgroup" && !harness::is_root() {
            continue;
        }
        // Per case: TO without its port, and the addresses that answer.
        for (to, given) in [
            ("127.0.0.1:", ["127.0.0.1", "::1"]),
            ("[::1]:", ["127.0.0.1", "::1"]),
            ("0.0.0.0:", ["127.0.0.2", "::1"]),
            ("", ["127.0.0.2", "::1"]),
        ] {
            let (old, new) = (free_port(), free_port());
            let dir = harness::in_test_dir(format!("map-nginx-{via}-{new}"));
            std::fs::create_dir_all(&dir).unwrap();
            let shown = dir.display();
            let configuration = format!(
                "daemon off; worker_processes 1; error_log stderr; pid {shown}/pid;\n\
                 events {{ worker_connections 64; }}\n\
                 http {{ access_log off; client_body_temp_path {shown}/a; proxy_temp_path {shown}/b;\n\
                 fastcgi_temp_path {shown}/c; uwsgi_temp_path {shown}/d; scgi_temp_path {shown}/e;\n\
                 server {{ listen {old} default_server; listen [::]:{old} default_server;\n\
                 location / {{ return 200 served; }} }} }}\n"
            );
            let file = dir.join("nginx.conf");
            std::fs::write(&file, configuration).unwrap();
            let rule = format!("{old}={to}{new}");
            let command = [nginx.to_str().unwrap(), "-c", file.to_str().unwrap()];
            let run = start_run(User::Current, &["--via", via, "--map", &rule], &command);
            for ip in given {
                let answer = harness::eventually(|| {
                    let answer = ask(address(ip, new), b"GET / HTTP/1.0\r\n\r\n").ok()?;
                    String::from_utf8_lossy(&answer).ends_with("served").then_some(())
                });
                assert!(answer.is_some(), "{via} {rule} {ip}: {}", run.stderr());
                assert!(ask(address(ip, old), b"").is_err(), "{via} {rule} {ip}");
            }
            assert_eq!(run.terminate().code, 0);
        }
    }
}

/// The supervisor binds for the worker, and must not lend it its capabilities.
#[test]
fn mapped_low_port_needs_privilege() {
    if !harness::is_root() {
        harness::skip("map-to-a-low-port", "needs root");
        return;
    }
    let who = c_program("who", &["-static"]);
    let (old, low) = (free_port(), 999);
    let rule = format!("{old}={low}");
    let command = [who.to_str().unwrap(), "tcp", "127.0.0.1", &old.to_string()];
    let refused = start_run(User::Nobody, &["--map", &rule], &command).wait();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("bind: Permission denied\n"), "{refused:?}");

    // A root supervisor, and a worker that has dropped root before its bind.
    let mut lowered = vec!["setpriv", "--reuid", "65534", "--clear-groups"];
    lowered.extend(command);
    let refused = start_run(User::Current, &["--map", &rule], &lowered).wait();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("bind: Permission denied\n"), "{refused:?}");
}

const CONNECT: &str = "
import socket, sys
kind, host, port, bind = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
family = socket.AF_INET6 if ':' in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
s.settimeout(10)
if bind != '-': s.bind((bind, 0))
if kind == 'sendto': s.sendto(b'hello', (host, port))
else:
    s.connect((host, port))
    s.send(b'hello')
";

/// The source address of `kind` under `run --source`, as the peer sees it.
fn source_seen_by_peer(source: &str, kind: &str, to: &str, own: &str) -> SocketAddr {
    let python = harness::find_program("python3").expect("python3 was looked for");
    let ip = if to.contains("127") { "127.0.0.1" } else { "::1" };
    let command = |port: u16| {
        let port = port.to_string();
        [python.to_str().unwrap(), "-c", CONNECT, kind, to, &port, own].map(String::from)
    };
    if kind == "tcp" {
        let peer = TcpListener::bind(address(ip, 0)).unwrap();
        let command = command(peer.local_addr().unwrap().port());
        let run = start_run(User::Current, &["--source", source], &command);
        let (_, from) = peer.accept().unwrap();
        assert_eq!(run.wait().code, 0);
        from
    } else {
        let peer = UdpSocket::bind(address(ip, 0)).unwrap();
        peer.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
        let command = command(peer.local_addr().unwrap().port());
        let run = start_run(User::Current, &["--source", source], &command);
        let (_, from) = peer.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(run.wait().code, 0);
        from
    }
}

#[test]
fn connections_use_the_source() {
    if harness::find_program("python3").is_none() {
        harness::skip("source", "no python3");
        return;
    }
    let port = free_port();
    for kind in ["tcp", "udp", "sendto"] {
        assert_eq!(
            source_seen_by_peer("127.0.0.9", kind, "127.0.0.1", "-").ip().to_string(),
            "127.0.0.9"
        );
        let fixed = format!("127.0.0.8:{port}");
        assert_eq!(
            source_seen_by_peer(&fixed, kind, "127.0.0.1", "-").to_string(),
            fixed,
            "{kind}"
        );
        // An IPv6 socket with an IPv4 peer.
        assert_eq!(
            source_seen_by_peer("127.0.0.9", kind, "::ffff:127.0.0.1", "-").ip().to_string(),
            "127.0.0.9"
        );
        // The source does not apply to another family or to a socket that the program has bound.
        assert_eq!(
            source_seen_by_peer("127.0.0.9", kind, "127.0.0.1", "127.0.0.7").ip().to_string(),
            "127.0.0.7"
        );
        assert_eq!(source_seen_by_peer("127.0.0.9", kind, "::1", "-").ip().to_string(), "::1");
    }
    assert_eq!(source_seen_by_peer(&format!("[::1]:{port}"), "tcp", "::1", "-").port(), port);
}

#[test]
fn transparent_binds_a_foreign_address() {
    if !harness::is_root() {
        harness::skip("transparent", "needs root");
        return;
    }
    let who = c_program("who", &[]);
    let port = free_port();
    let command = [who.to_str().unwrap(), "tcp", "0.0.0.0", &port.to_string()];
    let rule = format!("{port}=192.0.2.77:{port}");
    let run = start_run(User::Current, &["--transparent", "--map", &rule], &command);
    let listed = harness::eventually(|| {
        let listing = harness::start(User::Current, &["ls", &port.to_string()]).wait();
        listing.stdout.contains(&format!("192.0.2.77:{port}")).then_some(())
    });
    assert!(listed.is_some(), "{}", run.stderr());

    // Transparent applies to every socket, not only shared ones, and an unused option is reported.
    let calls = c_program("preload_calls", &[]);
    for via in ["seccomp", "preload"] {
        let options = ["--via", via, "--transparent", "--port", "1"];
        for port in ["0", &free_port().to_string()] {
            let command = [calls.to_str().unwrap(), "bind", "udp", "192.0.2.77", port];
            let exited = start_run(User::Current, &options, &command).wait();
            assert!(exited.stdout.starts_with("0 192.0.2.77 "), "{via}: {exited:?}");
            assert!(
                exited.stdout.ends_with(" port=0 address=1 transparent=1\n"),
                "{via}: {exited:?}"
            );
            assert_eq!(exited.stderr, "", "{via}");
        }
        let exited = start_run(User::Current, &options, &["true"]).wait();
        let warning = "sameport: warning: --transparent was never used: ";
        assert!(exited.stderr.starts_with(warning), "{via}: {exited:?}");
        assert_eq!(exited.code, 0, "{exited:?}");
    }

    let refused = start_run(User::Nobody, &["--transparent"], &["true"]).wait();
    assert_eq!(refused.code, 3);
    assert!(refused.stderr.starts_with("error: setsockopt: IP_TRANSPARENT needs "), "{refused:?}");
}

/// A bind to an address that no interface has, for every user, family, and port.
#[test]
fn freebind_binds_an_address_that_does_not_exist() {
    let calls = c_program("preload_calls", &[]);
    for user in User::all() {
        for via in ["seccomp", "preload"] {
            let options = ["--via", via, "--freebind", "--port", "1"];
            for (protocol, ip) in [("udp", "192.0.2.77"), ("tcp", "2001:db8::77")] {
                for port in ["0", &free_port().to_string()] {
                    let command = [calls.to_str().unwrap(), "bind", protocol, ip, port];
                    let exited = start_run(*user, &options, &command).wait();
                    assert!(exited.stdout.starts_with(&format!("0 {ip} ")), "{via}: {exited:?}");
                    assert_eq!(exited.stderr, "", "{via}");
                }
            }
            let exited = start_run(*user, &options, &["true"]).wait();
            let warning = "sameport: warning: --freebind was never used: ";
            assert!(exited.stderr.starts_with(warning), "{via}: {exited:?}");
        }
    }
    let refused = start_run(User::Current, &["--via", "cgroup", "--freebind"], &["true"]).wait();
    assert_eq!(refused.code, 2, "{refused:?}");
}

/// The address comes after the server, which answers there.
#[test]
fn a_server_with_freebind_waits_for_its_address() {
    const TEST: &str = "freebind";
    if !harness::is_root() || ["unshare", "ip", "bash"].map(harness::find_program).contains(&None) {
        return harness::skip(TEST, "needs root, unshare, ip and bash");
    }
    // A held socket of a worker, and one that the supervisor opens.
    for (options, address) in [("", "192.0.2.77"), ("--listen 192.0.2.77:7000", "192.0.2.77")] {
        let script = format!(
            "ip link set lo up
             \"$0\" run --name freebind --freebind {options} -- \"$1\" tcp {address} 7000 &
             while [ -z \"$(ss -Hltn)\" ]; do sleep 0.02; done
             ip address add {address}/32 dev lo
             exec 3<>/dev/tcp/{address}/7000
             read -r answer <&3 && echo \"answer $answer\"
             kill $!; wait $!"
        );
        let who = c_program("who", &[]);
        let arguments = ["-n", "timeout", "60", "bash", "-c", &script];
        let mut command = harness::command_for(User::Current, "unshare", &arguments);
        command.arg(harness::sameport()).arg(&who);
        let exited = harness::spawn_process(command).wait_within(TIMEOUT * 3);
        assert!(exited.stdout.contains("answer "), "{options}: {exited:?}");
    }
}

#[test]
fn invalid_rules_are_refused_before_the_start() {
    let marker = harness::in_test_dir(format!("started-{}", free_port()));
    let marker = marker.to_str().unwrap();
    let thousand: Vec<String> =
        (1..=1000).flat_map(|port| ["--map".into(), format!("{port}={}", port + 1000)]).collect();
    let thousand: Vec<&str> = thousand.iter().map(String::as_str).collect();
    let refused: [(&[&str], i32, &str); 12] = [
        (&["--port", "127.0.0.1:80/tcp"], 2, "a port is for every address: write 80/tcp"),
        (&["--each", "80/sctp"], 2, "/tcp"),
        (&["--map", "80=81/tcp"], 2, "write it behind FROM, as in 80/tcp=8080"),
        (&["--map", "80=80"], 2, "both sides are the same"),
        (&["--map", "80"], 2, "write FROM=TO"),
        (&["--map", "localhost:80=81"], 2, "before = goes PORT"),
        (&["--map", "0.0.0.0:80=[::1]:80"], 2, "an IPv4 socket cannot have an IPv6 address"),
        (&["--map", "80=81", "--map", "80=82"], 2, "--map 80=82: contradicts --map 80=81"),
        (&["--map", "80=192.0.2.1:80"], 3, "192.0.2.1 is not an address of this machine"),
        (&["--source", "192.0.2.1"], 3, "192.0.2.1 is not an address of this machine"),
        (&["--source", "8080"], 2, "write ADDR or ADDR:PORT"),
        (&["--source", "::1"], 2, "write ADDR or ADDR:PORT"),
    ];
    for (arguments, code, words) in refused {
        let exited = start_run(User::Current, arguments, &["touch", marker]).wait();
        assert_eq!(exited.code, code, "{arguments:?}: {exited:?}");
        assert!(exited.stderr.contains(words), "{arguments:?}: {exited:?}");
        let errors = exited.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{exited:?}");
        assert!(!std::path::Path::new(marker).exists(), "{arguments:?} started the program");
    }
    let many = start_run(User::Current, &thousand, &["true"]).wait();
    assert_eq!(many.code, 0, "{}", many.stderr);
}
