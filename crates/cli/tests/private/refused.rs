//! Who is refused: everybody, with whatever options, on whatever address that overlaps.

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

/// `who tcp|udp IP PORT [HOW]` under `run OPTIONS`.
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

/// Who answers this address, of so many that ask.
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

/// Who has connected, or sent a byte.
fn client(kind: Type, to: SocketAddr) -> Socket {
    let client = Socket::new(Domain::for_address(to), kind, None).unwrap();
    client.connect(&to.into()).unwrap();
    client.send(b"x").unwrap();
    client
}

#[test]
fn nobody_gets_the_address_or_a_part_of_it_and_members_get_all() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    for kind in [Type::STREAM, Type::DGRAM] {
        for ip in ["127.0.0.1", "0.0.0.0", "::"] {
            // The programs set SO_REUSEPORT themselves, or leave it to us.
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
                        let taken = intruder.takes(kind, address).map(drop);
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

/// What the test above would look like without `--private`.
#[test]
fn without_it_the_same_user_joins() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    for kind in [Type::STREAM, Type::DGRAM] {
        let port = free_port();
        let _run = who(&[], kind, "127.0.0.1", port, "once");
        let joins = |intruder: Intruder| intruder.takes(kind, v4([127, 0, 0, 1], port)).is_ok();
        assert!(joins(Intruder::user(0).reuse_port()));
        assert!(!joins(Intruder::user(1000).reuse_port()));
    }
}

/// On TCP a socket with SO_REUSEADDR that is bound and does not listen yet can be beaten by anybody; on
/// UDP one that is bound can.
#[test]
fn nobody_slips_in_between_bind_and_listen() {
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
            let taken = intruder.takes(r#type, v4([127, 0, 0, 1], port));
            // Plain `run` clears SO_REUSEADDR on UDP, too.
            assert_eq!(taken.is_ok(), beaten && kind == "tcp", "{kind} {options:?}: {taken:?}");
        }
    }
}

#[test]
fn a_port_that_the_kernel_picks_is_the_groups_too() {
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
            let taken = intruder.takes(r#type, v4([127, 0, 0, 1], port));
            assert!(taken.is_err(), "{kind} {intruder:?}");
        }
    }
}

#[test]
fn runs_of_one_group_share_and_others_are_told_why_not() {
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
        said(&exited, "a private group), which no other socket can join");
    }

    // The other way round.
    let port = free_port();
    let plain = who(&["--group", "web"], Type::STREAM, words[2], port, "once");
    let port = port.to_string();
    let words = [words[0], words[1], words[2], &port];
    let exited = start_run(User::Current, &["--private", "--group", "web"], &words).wait();
    assert_eq!(exited.code, 1, "{exited:?}");
    said(&exited, "which is not in this private group");
    drop(plain);
}

/// A program on two addresses of a port: connections are their acceptor's, and without care one of them
/// would keep the next member of the group out.
#[test]
fn open_connections_keep_no_member_out() {
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
            // The server waits for the rest of a request.
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"GET / HTTP/1.0\r\n").unwrap();
            clients.push(client);
        }
        let run = start_run(User::Current, &options, &words);
        for wildcard in ["0.0.0.0", "[::]"] {
            run.wait_for_stderr(&format!("{wildcard}:{port} is now shared by {members}"));
        }
        runs.push(run);
        for intruder in Intruder::all() {
            for address in addresses {
                let taken = intruder.takes(Type::STREAM, address).map(drop);
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

/// Connections that are closing keep out no more of them than open ones do.
#[test]
fn a_run_starts_again_over_closing_connections() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    let port = free_port();
    for _ in 0..3 {
        // The server closes first, so that TIME_WAIT is its own.
        let run = who(&["--private"], Type::STREAM, "127.0.0.1", port, "once");
        answering(Type::STREAM, v4([127, 0, 0, 1], port), 8);
        run.terminate();
    }
}

#[test]
fn only_the_ports_that_are_asked_for_are_private() {
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
    // As the program made it: with SO_REUSEADDR, which lets anybody in.
    let intruder = Intruder::user(1000).reuse_address();
    assert!(intruder.takes(Type::DGRAM, v4([127, 0, 0, 1], port)).is_ok());
}

/// Beside a socket of a device there is room on another device, and whoever is there gets past it.
#[test]
fn a_socket_of_a_device_is_refused_because_it_cannot_be_private() {
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

/// Beside `[::]` for IPv6 alone there is room on 0.0.0.0. Who takes that gets above it, gets nothing, and
/// keeps newcomers out of TCP. Where the group has 0.0.0.0, too, there is no room.
#[test]
fn beside_a_v6_only_socket_somebody_gets_on_the_port_and_gets_nothing() {
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
        assert!(above.takes(kind, any).is_err(), "{name}");
        let _beside =
            Intruder::user(1000).reuse_port().takes(kind, v4([0, 0, 0, 0], port)).unwrap();
        let above = above.takes(kind, any).unwrap();
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
            assert!(intruder.takes(kind, v4([0, 0, 0, 0], port)).is_err(), "{name} {intruder:?}");
            assert!(
                intruder.takes(kind, v6(Ipv6Addr::UNSPECIFIED, port)).is_err(),
                "{name} {intruder:?}"
            );
        }
    }
}

/// `ls` must see through it: the owner is no user.
#[test]
fn a_listing_calls_it_private() {
    if !is_root() {
        return skip("private-refusals", "needs root");
    }
    let port = free_port();
    let run = who(&["--private"], Type::STREAM, "127.0.0.1", port, "once");
    let port = port.to_string();
    let listed = start(User::Current, &["ls", "--json", &port]).wait();
    let told: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let member = &told["groups"][0]["members"][0];
    assert_eq!(member["private"], true, "{told}");
    assert_eq!(member["pids"][0], descendants(run.pid())[0], "{told}");
    let text = start(User::Current, &["ls", &port]).wait().stdout;
    assert!(text.contains(" private "), "{text}");
    let own = std::fs::metadata("/proc/self").unwrap().uid();
    assert_ne!(member["uid"], own, "{told}");
}
