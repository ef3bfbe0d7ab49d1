//! Sockets that a parent passes to this program, which is started again as the child.
#![cfg(unix)]

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use sameport::{ErrorKind, Options, PassedSockets};

/// The answer of a child, one line of its output.
const ANSWER: &str = "answer: ";

/// The answer of `child`, a test of this file, started with these sockets and variables, in which `$$`
/// is the process of the child.
fn answer(child: &str, sockets: &[&dyn AsFd], variables: &str) -> String {
    let mut command = Command::new("sh");
    // The shell moves the sockets to 3 and 4 from its standard input and error.
    let moves = ["", "3<&0", "3<&0 4<&2"][sockets.len()];
    command
        .args(["-c", &format!("{variables} exec \"$0\" \"$@\" {moves} </dev/null 2>/dev/null")])
        .arg(std::env::current_exe().unwrap())
        .args([child, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env_remove("RUST_TEST_THREADS");
    let copy = |socket: &&dyn AsFd| Stdio::from(socket.as_fd().try_clone_to_owned().unwrap());
    if let Some(first) = sockets.first() {
        command.stdin(copy(first));
    }
    if let Some(second) = sockets.get(1) {
        command.stderr(copy(second));
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| Some(line.split_once(ANSWER)?.1.to_owned()));
    line.unwrap_or_else(|| panic!("no answer: {output:?}"))
}

/// Two names for two sockets, for the child.
const TWO: &str = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:dns";

#[test]
fn sockets_with_names() {
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, udp) = (web.local_addr().unwrap(), dns.local_addr().unwrap());
    let listed = answer("child_lists", &[&web, &dns], TWO);
    assert_eq!(
        listed,
        format!("descriptor 3 (web), TCP {tcp} listener, descriptor 4 (dns), UDP {udp} udp")
    );
    let unnamed = answer("child_lists", &[&web], "LISTEN_PID=$$ LISTEN_FDS=1");
    assert_eq!(unnamed, format!("descriptor 3 (unknown), TCP {tcp} listener"));
    // For another process, or none at all.
    assert_eq!(answer("child_lists", &[&web], "LISTEN_PID=1 LISTEN_FDS=1"), "");
    assert_eq!(answer("child_lists", &[&web], "LISTEN_FDS=1"), "");
    assert_eq!(answer("child_lists", &[], "unset LISTEN_PID LISTEN_FDS;"), "");
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_lists() {
    let passed = PassedSockets::take().unwrap();
    let one = |socket: &sameport::PassedSocket| {
        let kinds = [(socket.is_listener(), " listener"), (socket.is_udp(), " udp")];
        let kinds: String = kinds.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
        format!("{socket}{kinds}")
    };
    println!("{ANSWER}{}", passed.iter().map(one).collect::<Vec<_>>().join(", "));
    assert_eq!(passed.len(), passed.into_iter().count());
}

#[test]
fn a_passed_listener_accepts() {
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let _waiting = TcpStream::connect(web.local_addr().unwrap()).unwrap();
    dns.connect(dns.local_addr().unwrap()).unwrap();
    dns.send(b"hello").unwrap();
    // The child has its own descriptor of the same sockets.
    assert_eq!(
        answer("child_accepts", &[&web, &dns], TWO),
        "accepted, received 5, second: take LISTEN_FDS: the sockets of this process are taken already"
    );
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_accepts() {
    let mut passed = PassedSockets::take().unwrap();
    let listener = passed.remove("web").unwrap().into_listener().unwrap();
    let socket = passed.remove("dns").unwrap().into_udp().unwrap();
    assert!(passed.is_empty() && passed.remove("web").is_none());
    // No child of this process inherits them.
    let mut child = Command::new("sh");
    child.args(["-c", "true <&3 || true <&4"]).stderr(Stdio::null());
    assert!(!child.status().unwrap().success());
    assert_eq!((listener.as_raw_fd(), socket.as_raw_fd()), (3, 4));
    listener.accept().unwrap();
    let count = socket.recv(&mut [0; 8]).unwrap();
    drop((listener, socket));
    let second = PassedSockets::take().unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Other);
    println!("{ANSWER}accepted, received {count}, second: {second}");
}

#[test]
fn what_cannot_be_taken() {
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    for (variables, expected) in [
        ("LISTEN_PID=$$ LISTEN_FDS=x", "Other take LISTEN_FDS=x: not a number from 0 to 4096"),
        (
            "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=a:b",
            "Other take LISTEN_FDNAMES=a:b: not one name for each socket",
        ),
    ] {
        assert_eq!(answer("child_fails", &[&web], variables), expected);
    }
    // The shell can have descriptors of its own above 3.
    let missing = answer("child_fails", &[&web], "LISTEN_PID=$$ LISTEN_FDS=4000");
    assert!(missing.starts_with("WrongSocket take descriptor "), "{missing}");
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_fails() {
    let error = PassedSockets::take().unwrap_err();
    // Nothing is taken, so the error is the same again.
    assert_eq!(PassedSockets::take().unwrap_err().to_string(), error.to_string());
    println!("{ANSWER}{:?} {error}", error.kind());
}

/// Variables that lie: descriptor 3 is one that this process opened itself.
#[test]
fn a_descriptor_of_this_process_is_not_taken() {
    let text = answer("child_opens", &[], "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web");
    let expected = "WrongSocket take descriptor 3 (web): close-on-exec, so other code opened it, or has taken it; 4";
    assert_eq!(text, expected);
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_opens() {
    use std::io::Read;

    let mut file = std::fs::File::open("/dev/zero").unwrap();
    let mut copies = Vec::new();
    // Up to the first one above 3, if 3 is not free.
    while file.as_raw_fd() != 3 && copies.last().map_or(true, |last: &OwnedFd| last.as_raw_fd() < 3)
    {
        copies.push(OwnedFd::from(file.try_clone().unwrap()));
        file = std::fs::File::open("/dev/zero").unwrap();
    }
    let error = PassedSockets::take().unwrap_err();
    // The file still has its descriptor.
    let count = file.read(&mut [0; 4]).unwrap();
    println!("{ANSWER}{:?} {error}; {count}", error.kind());
}

#[test]
fn passed_or_opened() {
    // Nothing passed: opened.
    assert_eq!(answer("child_listens", &[], "unset LISTEN_PID; PORT=0"), "127.0.0.1 nonblocking");
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = web.local_addr().unwrap().port();
    let passed =
        |rest: &str| format!("PORT={port} LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web {rest}");
    assert_eq!(answer("child_listens", &[&web], &passed("")), "127.0.0.1 nonblocking");
    // Another address than that of the passed socket.
    let other = answer("child_listens", &[&web], &passed("PORT=1"));
    assert_eq!(
        other,
        format!(
            "WrongSocket LISTEN_FDS 127.0.0.1:1: no passed socket is a TCP listener with this address; descriptor 3 (web), TCP 127.0.0.1:{port}"
        )
    );
    // A UDP socket of the same address is none.
    let dns = UdpSocket::bind(("127.0.0.1", port)).unwrap();
    let other = answer("child_listens", &[&dns], &passed(""));
    assert_eq!(
        other,
        format!(
            "WrongSocket LISTEN_FDS 127.0.0.1:{port}: no passed socket is a TCP listener with this address; descriptor 3 (web), UDP 127.0.0.1:{port}"
        )
    );
}

/// Exclusive, because std's listener is.
#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_listens() {
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let mut passed = PassedSockets::take().unwrap();
    let options = Options::exclusive().nonblocking(true);
    match passed.listen(&options, ("127.0.0.1", port)) {
        Ok(listener) => {
            let error = listener.accept().unwrap_err();
            let blocks = match error.kind() {
                std::io::ErrorKind::WouldBlock => "nonblocking",
                _ => "blocking",
            };
            println!("{ANSWER}{} {blocks}", listener.local_addr().unwrap().ip());
            // It was taken out, and is no longer there.
            if port != 0 {
                passed.listen(&options, ("127.0.0.1", port)).unwrap_err();
            }
        }
        Err(error) => println!("{ANSWER}{:?} {error}", error.kind()),
    }
}

#[test]
fn a_passed_socket_is_compared_with_what_is_asked_for() {
    if sameport::support().sharing == sameport::Sharing::Unsupported {
        return;
    }
    let web = sameport::listen("127.0.0.1:0").unwrap();
    let at = web.local_addr().unwrap();
    let check = |socket: &dyn AsFd, address: SocketAddr, asked: &str| {
        let variables = format!(
            "ADDRESS={address} ASKED={asked} LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web"
        );
        answer("child_checks", &[socket], &variables)
    };
    assert_eq!(check(&web, at, "shared"), "as asked for");
    let here = format!("LISTEN_FDS {at}: descriptor 3 (web), TCP {at} differs: ");
    assert_eq!(
        check(&web, at, "exclusive"),
        format!("WrongSocket {here}it is shared, not exclusive")
    );
    let alone = sameport::listen_exclusive("127.0.0.1:0").unwrap();
    let other = alone.local_addr().unwrap();
    assert_eq!(
        check(&alone, at, "shared"),
        format!(
            "WrongSocket LISTEN_FDS {at}: descriptor 3 (web), TCP {other} differs: it is bound to {other}; \
             it is not shared (a socket unit shares it by ReusePort=yes)"
        )
    );
    let file = std::fs::File::open("/dev/null").unwrap();
    let text = format!("WrongSocket LISTEN_FDS {at}: descriptor 3 (web), not a socket");
    assert_eq!(check(&file, at, "shared"), text);
    let stream = TcpStream::connect(at).unwrap();
    let near = stream.local_addr().unwrap();
    let it = format!("WrongSocket LISTEN_FDS {near}: descriptor 3 (web), TCP {near}");
    let text = format!("{it} differs: it is connected to {at}");
    assert_eq!(check(&stream, near, "exclusive"), text);
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_checks() {
    let address = std::env::var("ADDRESS").unwrap();
    let options = match std::env::var("ASKED").unwrap().as_str() {
        "shared" => Options::shared(),
        _ => Options::exclusive(),
    };
    let socket = PassedSockets::take().unwrap().into_iter().next().unwrap();
    if let Err(error) = socket.check(&options, address) {
        println!("{ANSWER}{:?} {error}", error.kind());
        return;
    }
    println!("{ANSWER}as asked for");
    assert!(socket.is_listener() && socket.into_listener().is_ok());
}
