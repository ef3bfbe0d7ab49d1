//! Every user is refused, with any options, on any overlapping address.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;

use socket2::{Domain, Socket, Type};

use crate::harness::{
    Exited, Process, User, ask, ask_datagram, c_program, descendants, eventually, free_port,
    is_root, script, skip, start, start_run, wait_until_answering,
};
use crate::intruder::Intruder;

/// Starts `who tcp|udp IP PORT [HOW]` under `run OPTIONS`.
pub(crate) fn who(options: &[&str], kind: Type, ip: &str, port: u16, how: &str) -> Process {
    let program = c_program("who", &[]);
    let port = port.to_string();
    let r#type = kind;
    let kind = if kind == Type::STREAM { "tcp" } else { "udp" };
    let run = start_run(User::Current, options, &[program.to_str().unwrap(), kind, ip, &port, how]);
    let there = v4([127, 0, 0, 1], port.parse().unwrap());
    assert!(!answering(r#type, there, 1).is_empty());
    run
}

/// The pids that answer `times` requests to this address.
fn answering(kind: Type, address: SocketAddr, times: usize) -> BTreeSet<i32> {
    let one = |_| {
        let answer = eventually(|| match kind {
            Type::STREAM => ask(address, b"").ok().filter(|answer| !answer.is_empty()),
            _ => ask_datagram(address, b"x").ok(),
        });
        String::from_utf8(answer.unwrap()).unwrap().trim().parse().unwrap()
    };
    (0..times).map(one).collect()
}

fn v4(ip: [u8; 4], port: u16) -> SocketAddr {
    (Ipv4Addr::from(ip), port).into()
}

fn v6(ip: Ipv6Addr, port: u16) -> SocketAddr {
    (ip, port).into()
}

/// A socket that has connected, or sent a byte.
fn client(kind: Type, to: SocketAddr) -> Socket {
    let client = Socket::new(Domain::for_address(to), kind, None).unwrap();
    client.connect(&to.into()).unwrap();
    client.send(b"x").unwrap();
    client
}

#[test]
fn every_intruder_is_refused_and_members_get_all_traffic() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    for kind in [Type::STREAM, Type::DGRAM] {
        for ip in ["127.0.0.1", "0.0.0.0", "::"] {
            // The programs set SO_REUSEPORT themselves, or sameport does.
            for how in ["once", "setrp"] {
                let port = free_port();
                let run = who(&["--private", "-n", "2"], kind, ip, port, how);
                run.wait_for_stderr("now shared by 2");
                let mut held = vec![
                    v4([127, 0, 0, 1], port),
                    v4([0, 0, 0, 0], port),
                    v6(Ipv6Addr::UNSPECIFIED, port),
                    v6("::ffff:127.0.0.1".parse().unwrap(), port),
                ];
                if ip == "::" {
                    held.push(v6(Ipv6Addr::LOCALHOST, port));
                }
                for address in held {
                    for intruder in Intruder::all() {
                        let taken = intruder.bind(kind, address).map(drop);
                        let error = taken.expect_err(&format!("{intruder:?} on {address}"));
                        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{intruder:?}, {address}");
                    }
                }
                let members: BTreeSet<i32> = descendants(run.pid()).into_iter().collect();
                let answering = answering(kind, v4([127, 0, 0, 1], port), 40);
                assert!(answering.is_subset(&members), "{answering:?} {members:?}");
                assert_eq!(answering.len(), 2, "{answering:?} {members:?}");
            }
        }
    }
}

/// The control of the test above, without `--private`.
#[test]
fn without_private_the_same_user_joins() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    for kind in [Type::STREAM, Type::DGRAM] {
        let port = free_port();
        let _run = who(&[], kind, "127.0.0.1", port, "once");
        let joins = |intruder: Intruder| intruder.bind(kind, v4([127, 0, 0, 1], port)).is_ok();
        assert!(joins(Intruder::user(0).reuse_port()));
        assert!(!joins(Intruder::user(1000).reuse_port()));
    }
}

/// A TCP socket with SO_REUSEADDR can lose its address between bind and listen; a UDP socket after
/// bind.
#[test]
fn no_intruder_binds_between_bind_and_listen() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    let script = script("bind_only.py");
    for kind in ["tcp", "udp"] {
        for (options, beaten) in [(&["--private"][..], false), (&["--via", "seccomp"], true)] {
            let port = free_port();
            let words = ["python3", script.to_str().unwrap(), kind, &port.to_string()];
            let run = start_run(User::Current, options, &words);
            run.wait_for_stdout("bound");
            let r#type = if kind == "tcp" { Type::STREAM } else { Type::DGRAM };
            let intruder = Intruder::user(1000).reuse_address().reuse_port();
            let taken = intruder.bind(r#type, v4([127, 0, 0, 1], port));
            // Without `--private`, `run` clears SO_REUSEADDR on UDP too.
            assert_eq!(taken.is_ok(), beaten && kind == "tcp", "{kind} {options:?}: {taken:?}");
        }
    }
}

#[test]
fn ephemeral_port_is_private() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    let script = script("bind_only.py");
    for kind in ["tcp", "udp", "listen-only"] {
        let words = ["python3", script.to_str().unwrap(), kind, "0"];
        let run = start_run(User::Current, &["--private"], &words);
        run.wait_for_stdout("bound");
        let port = run.stdout().trim().rsplit(' ').next().unwrap().parse().unwrap();
        let r#type = if kind == "udp" { Type::DGRAM } else { Type::STREAM };
        for intruder in Intruder::all() {
            let taken = intruder.bind(r#type, v4([127, 0, 0, 1], port));
            assert!(taken.is_err(), "{kind} {intruder:?}");
        }
    }
}

#[test]
fn runs_of_one_group_share_and_others_are_refused() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    let port = free_port();
    let program = c_program("who", &[]);
    let words = [program.to_str().unwrap(), "tcp", "127.0.0.1", &port.to_string()];
    let first = who(&["--private", "--group", "web"], Type::STREAM, words[2], port, "once");
    let second = who(&["--private", "--group", "web"], Type::STREAM, words[2], port, "setrp");
    second.wait_for_stderr("now shared by 2");
    let members = [&first, &second].map(|run| descendants(run.pid())).concat();
    assert_eq!(answering(Type::STREAM, v4([127, 0, 0, 1], port), 40), BTreeSet::from_iter(members));

    let refused = |options: &[&str]| start_run(User::Current, options, &words).wait();
    let said = |exited: &Exited, text: &str| assert!(exited.stderr.contains(text), "{exited:?}");
    for options in
        [&["--private", "--group", "api"][..], &["--private"], &["--group", "web"], &["--join"]]
    {
        let exited = refused(options);
        assert_eq!(exited.code, 1, "{options:?}: {exited:?}");
        said(&exited, ", a private group), under sameport run (pid ");
        said(&exited, ", which no other socket can join");
    }

    // The same with the roles swapped.
    let port = free_port();
    let plain = who(&["--group", "web"], Type::STREAM, words[2], port, "once");
    let port = port.to_string();
    let words = [words[0], words[1], words[2], &port];
    let exited = start_run(User::Current, &["--private", "--group", "web"], &words).wait();
    assert_eq!(exited.code, 1, "{exited:?}");
    said(&exited, "which is not in this private group");
    drop(plain);
}

/// A program on two addresses of a port. Connections belong to the user that accepts them, so a
/// connection could refuse the next member of the group.
#[test]
fn open_connections_refuse_no_member() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    let port = free_port();
    let program = script("serve.py");
    let words = ["python3", program.to_str().unwrap(), &port.to_string()];
    let options = ["--private", "--group", "both"];
    let addresses = [v4([127, 0, 0, 1], port), v6(Ipv6Addr::LOCALHOST, port)];
    let mut runs = vec![start_run(User::Current, &options, &words)];
    let mut clients = Vec::new();
    for members in 2..=4 {
        for address in addresses {
            wait_until_answering(address);
            // The server waits for the rest of the request, so the connection stays open.
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"GET / HTTP/1.0\r\n").unwrap();
            clients.push(client);
        }
        let run = start_run(User::Current, &options, &words);
        for wildcard in ["0.0.0.0", "[::]"] {
            run.wait_for_stderr(&format!("{wildcard}:{port}/tcp is now shared by {members}"));
        }
        runs.push(run);
        for intruder in Intruder::all() {
            for address in addresses {
                let taken = intruder.bind(Type::STREAM, address).map(drop);
                assert!(taken.is_err(), "{intruder:?} on {address}");
            }
        }
    }
    for mut client in clients {
        client.write_all(b"\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 OK"), "{answer}");
    }
}

/// Closing connections refuse no member either.
#[test]
fn run_restarts_despite_closing_connections() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    let port = free_port();
    for _ in 0..3 {
        // The server closes first, so it keeps the TIME_WAIT.
        let run = who(&["--private"], Type::STREAM, "127.0.0.1", port, "once");
        answering(Type::STREAM, v4([127, 0, 0, 1], port), 8);
        run.terminate();
    }
}

#[test]
fn only_named_ports_are_private() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    let port = free_port();
    let other = port.to_string();
    let elsewhere = free_port().to_string();
    let script = script("bind_only.py");
    let words = ["python3", script.to_str().unwrap(), "udp", &other];
    let run = start_run(User::Current, &["--private", "--port", &elsewhere], &words);
    run.wait_for_stdout("bound");
    // The socket keeps SO_REUSEADDR as the program set it, so any user joins.
    let intruder = Intruder::user(1000).reuse_address();
    assert!(intruder.bind(Type::DGRAM, v4([127, 0, 0, 1], port)).is_ok());
}

/// A program on another device of the port comes before a device-bound socket, so such a socket
/// cannot be private.
#[test]
fn device_bound_socket_is_refused() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    let (script, port) = (script("bind_part.py"), free_port().to_string());
    for kind in ["tcp", "udp"] {
        let words = ["python3", script.to_str().unwrap(), "device", kind, &port];
        let exited = start_run(User::Current, &["--private"], &words).wait();
        assert_eq!(exited.code, 1, "{kind}: {exited:?}");
        assert!(exited.stderr.contains("its socket is bound to a device"), "{kind}: {exited:?}");
        assert!(exited.stderr.contains("Permission denied"), "{kind}: {exited:?}");
    }
}

/// A v6-only `[::]` leaves 0.0.0.0 to others. A socket there lets its user bind an address that
/// overlaps the group's, where it receives nothing but refuses new TCP members. A group with both
/// wildcards leaves no address.
#[test]
fn intruder_next_to_a_v6_only_socket_receives_nothing() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    let script = script("bind_part.py");
    let start = |part: &str, kind: &str, port: u16| {
        let words = ["python3", script.to_str().unwrap(), part, kind, &port.to_string()];
        start_run(User::Current, &["--private", "--group", "v6-only"], &words)
    };
    for (kind, name) in [(Type::STREAM, "tcp"), (Type::DGRAM, "udp")] {
        let port = free_port();
        let member = start("v6only", name, port);
        member.wait_for_stdout("bound");
        let any = v6(Ipv6Addr::UNSPECIFIED, port);
        let above = Intruder { on_device: true, ..Intruder::user(1000).reuse_port() };
        assert!(above.bind(kind, any).is_err(), "{name}");
        let _beside = Intruder::user(1000).reuse_port().bind(kind, v4([0, 0, 0, 0], port)).unwrap();
        let above = above.bind(kind, any).unwrap();
        let clients: Vec<_> =
            (0..20).map(|_| client(kind, v6(Ipv6Addr::LOCALHOST, port))).collect();
        above.set_nonblocking(true).unwrap();
        let got = if kind == Type::STREAM {
            above.accept().map(drop)
        } else {
            above.recv_from(&mut [std::mem::MaybeUninit::uninit()]).map(drop)
        };
        assert_eq!(got.unwrap_err().kind(), ErrorKind::WouldBlock, "{name}");
        drop(clients);
        if kind == Type::STREAM {
            let newcomer = start("v6only", name, port).wait();
            assert!(newcomer.stderr.contains("Address already in use"), "{newcomer:?}");
        }

        let port = free_port();
        let (both, v4_too) = (start("v6only", name, port), start("any", name, port));
        both.wait_for_stdout("bound");
        v4_too.wait_for_stdout("bound");
        for intruder in Intruder::all() {
            assert!(intruder.bind(kind, v4([0, 0, 0, 0], port)).is_err(), "{name} {intruder:?}");
            assert!(
                intruder.bind(kind, v6(Ipv6Addr::UNSPECIFIED, port)).is_err(),
                "{name} {intruder:?}"
            );
        }
    }
}

/// The owner is not a user, so `ls` shows the user of the workers.
#[test]
fn ls_shows_private_groups() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    let port = free_port();
    let run = who(&["--private"], Type::STREAM, "127.0.0.1", port, "once");
    let port = port.to_string();
    let listed = start(User::Current, &["ls", "--json", &port]).wait();
    let report: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let member = &report["groups"][0]["members"][0];
    assert_eq!(member["private"], true, "{report}");
    assert_eq!(member["pids"][0], descendants(run.pid())[0], "{report}");
    let text = start(User::Current, &["ls", &port]).wait().stdout;
    assert!(text.contains(" private "), "{text}");
    let own = std::fs::metadata("/proc/self").unwrap().uid();
    assert_ne!(member["uid"], own, "{report}");
}
