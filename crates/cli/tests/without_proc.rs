//! `ls` and `audit` without `/proc`: sockets, and that no process is visible.
#![cfg(target_os = "linux")]

mod harness;

use std::net::TcpListener;

use harness::{Exited, User, free_port, is_root, sameport, skip, start_command};
use socket2::{Domain, Socket, Type};

/// Runs a verb with an empty `/proc`.
fn without_proc(verb: &str, port: u16) -> Exited {
    let line = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
    let (binary, port) = (sameport().to_str().unwrap(), port.to_string());
    let words = ["--mount", "--", "/bin/sh", "-c", line, binary, verb, &port];
    start_command(User::Current, "unshare", &words).wait()
}

#[test]
fn sockets_are_listed_and_processes_are_hidden() {
    if !is_root() {
        return skip("without-proc", "needs root");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ls = without_proc("ls", port);
    assert_eq!(ls.code, 0, "{ls:?}");
    assert!(ls.stdout.contains(&format!("127.0.0.1:{port}")), "{ls:?}");
    assert!(ls.stderr.contains("hidden from here"), "{ls:?}");
    let audit = without_proc("audit", port);
    assert!(audit.stderr.contains("in the kernel or hidden"), "{audit:?}");
    // A bare port still means both families.
    let both = Socket::new(Domain::IPV6, Type::STREAM, None).is_ok();
    let family = if both { "*" } else { "0.0.0.0" };
    let why = without_proc("why", port);
    assert!(why.stdout.starts_with(&format!("no: {family}:{port}/tcp ")), "{why:?}");
    let free = free_port();
    let why = without_proc("why", free);
    assert!(why.stdout.starts_with(&format!("yes: {family}:{free}/tcp ")), "{why:?}");
}
