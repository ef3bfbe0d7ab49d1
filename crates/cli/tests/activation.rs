//! Programs that take passed sockets with the library: under `sameport run --listen`, and under
//! systemd's own implementation of the protocol. The program is this test, started again.
#![cfg(target_os = "linux")]

mod harness;

use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};

use harness::named_run::RunSetup;
use harness::{
    Process, SOCKET_TIMEOUT, User, ask, command_for, eventually, find_program, free_port, skip,
    spawn_process,
};
use sameport::{Options, PassedSocket, PassedSockets};
use socket2::SockRef;

/// The command of a child of this file.
fn child(name: &str) -> Vec<String> {
    let program = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    let words = ["--exact", name, "--ignored", "--nocapture", "--test-threads=1"];
    std::iter::once(program).chain(words.map(str::to_owned)).collect()
}

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// The answer of a server, as soon as one answers.
fn answer(to: SocketAddr) -> String {
    let found = eventually(|| ask(to, b"").ok().filter(|bytes| !bytes.is_empty()));
    String::from_utf8(found.expect("an answer")).unwrap()
}

#[test]
fn a_worker_of_a_run_takes_the_listeners_of_the_run() {
    let setup = RunSetup::new(User::Current);
    let to = setup.address();
    let second = free_port();
    let two = format!("127.0.0.1:{second}");
    let address = "ADDRESS=127.0.0.1:{port}";
    let options = ["--listen", "127.0.0.1:{port}", "--listen", &two, "--env", address];
    let run = setup.run(&options, &child("child_serves"));
    let at = format!("descriptor 3 (sameport), TCP {to}, shared: as asked for, 1 left");
    assert_eq!(answer(to), at);
    // The second instance gets the sockets too.
    run.verb("restart", &[]);
    assert_eq!(answer(to), at);
    run.stop();
}

/// Answers each connection to ADDRESS with what it has taken.
#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_serves() {
    let address = std::env::var("ADDRESS").unwrap();
    let mut passed = PassedSockets::take().unwrap();
    let describe = |socket: &PassedSocket| {
        let shared = if socket.is_shared() { "shared" } else { "exclusive" };
        format!("{socket}, {shared}")
    };
    let first = passed.iter().next().map(describe).unwrap_or_default();
    let shared = passed.iter().next().is_some_and(PassedSocket::is_shared);
    let options = if shared { Options::shared() } else { Options::exclusive() };
    let listener = passed.listen(&options, address).unwrap();
    let text = format!("{first}: as asked for, {} left", passed.len());
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        // A client can be gone.
        let _ = stream.write_all(text.as_bytes());
    }
}

fn socket_activate(options: &[&str], child: &[String]) -> Option<Process> {
    const PROGRAM: &str = "systemd-socket-activate";
    let Some(program) = find_program(PROGRAM) else {
        skip(PROGRAM, "no systemd-socket-activate: Debian package systemd");
        return None;
    };
    let words: Vec<&str> =
        options.iter().copied().chain(child.iter().map(String::as_str)).collect();
    Some(spawn_process(command_for(User::Current, program, &words)))
}

#[test]
fn under_systemd_socket_activate() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let set = format!("ADDRESS={address}");
    let options = ["-l", &address, "--fdname=web", "-E", &set];
    let Some(_manager) = socket_activate(&options, &child("child_serves")) else { return };
    let expected = format!("descriptor 3 (web), TCP {address}, exclusive: as asked for, 0 left");
    assert_eq!(answer(loopback(port)), expected);
}

#[test]
fn a_datagram_socket_of_systemd_loses_so_reuseaddr() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let set = format!("ADDRESS={address}");
    let options = ["-d", "-l", &address, "--fdname=dns", "-E", &set];
    let Some(_manager) = socket_activate(&options, &child("child_answers")) else { return };
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(loopback(port)).unwrap();
    client.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
    let found = eventually(|| {
        // Refused until the manager has bound the socket.
        client.send(b"hello").ok()?;
        let mut buffer = [0; 200];
        let count = client.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..count]).into_owned())
    });
    let expected = format!("descriptor 3 (dns), UDP {address}: SO_REUSEADDR true, then false");
    assert_eq!(found.as_deref(), Some(&*expected));
}

/// Answers each datagram with what it has taken.
#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_answers() {
    let passed = PassedSockets::take().unwrap().remove("dns").unwrap();
    passed.check(&Options::exclusive(), std::env::var("ADDRESS").unwrap()).unwrap();
    let text = passed.to_string();
    let before = SockRef::from(&passed).reuse_address().unwrap();
    let socket = passed.into_udp().unwrap();
    let after = SockRef::from(&socket).reuse_address().unwrap();
    let text = format!("{text}: SO_REUSEADDR {before}, then {after}");
    loop {
        let (_, peer) = socket.recv_from(&mut [0; 64]).unwrap();
        // A client can be gone.
        let _ = socket.send_to(text.as_bytes(), peer);
    }
}
