//! What can be told where `/proc` cannot be seen: the sockets, and that nobody else is.
#![cfg(target_os = "linux")]

mod harness;

use std::net::TcpListener;

use harness::{Exited, User, free_port, is_root, sameport, skip, start_command};
use socket2::{Domain, Socket, Type};

/// Under an empty `/proc`.
fn blind(verb: &str, port: u16) -> Exited {
    let line = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
    let (binary, port) = (sameport().to_str().unwrap(), port.to_string());
    let words = ["--mount", "--", "/bin/sh", "-c", line, binary, verb, &port];
    start_command(User::Current, "unshare", &words).wait()
}

#[test]
fn sockets_are_told_and_the_rest_is_said_to_be_hidden() {
    if !is_root() {
        return skip("without-proc", "to hide /proc needs root");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ls = blind("ls", port);
    assert_eq!(ls.code, 0, "{ls:?}");
    assert!(ls.stdout.contains(&format!("127.0.0.1:{port}")), "{ls:?}");
    assert!(ls.stderr.contains("hidden from here"), "{ls:?}");
    let audit = blind("audit", port);
    assert!(audit.stderr.contains("hidden from here"), "{audit:?}");
    // A bare port is both families all the same.
    let both = Socket::new(Domain::IPV6, Type::STREAM, None).is_ok();
    let family = if both { "*" } else { "0.0.0.0" };
    let why = blind("why", port);
    assert!(why.stdout.starts_with(&format!("no: {family}:{port}/tcp ")), "{why:?}");
    let free = free_port();
    let why = blind("why", free);
    assert!(why.stdout.starts_with(&format!("yes: {family}:{free}/tcp ")), "{why:?}");
}
