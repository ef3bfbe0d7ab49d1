//! `sameport run` as in the README.
#![cfg(target_os = "linux")]

mod harness;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use harness::{Patience, TIMEOUT, User, ask, c_program, free_port, start_command, start_run};

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// The pids that answer, until `count` different ones have come.
fn pids_answering(address: SocketAddr, count: usize) -> BTreeSet<i32> {
    let mut pids = BTreeSet::new();
    let patience = Patience::new(TIMEOUT);
    while pids.len() < count && !patience.is_over() {
        if let Ok(answer) = ask(address, b"") {
            pids.insert(String::from_utf8(answer).unwrap().trim().parse().unwrap());
        }
    }
    pids
}

#[test]
fn two_runs_share_a_port() {
    let who = c_program("who", &["-static"]);
    for user in User::all() {
        let port = free_port();
        let command = [who.to_str().unwrap(), "tcp", "127.0.0.1", &port.to_string()];

        let first = start_run(*user, &[], &command);
        harness::wait_until_answering(loopback(port));
        let second = start_run(*user, &[], &command);
        second.wait_for_stderr(&format!("127.0.0.1:{port}/tcp is now shared by 2: pid "));
        assert_eq!(pids_answering(loopback(port), 2).len(), 2);

        let alone = start_command(*user, command[0], &command[1..]).wait();
        assert_eq!((alone.code, alone.stderr.as_str()), (1, "bind: Address already in use\n"));

        for run in [first, second] {
            let exited = run.terminate();
            assert_eq!(exited.code, 128 + libc::SIGTERM, "{exited:?}");
            assert_eq!(exited.stdout, "");
        }
    }
}

/// The first command of the README, with the example that cargo builds.
#[test]
fn two_copies_of_the_example_share_a_port() {
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_sameport"));
    let hello = bin.with_file_name("examples").join("hello");
    assert!(hello.exists(), "{} is built by `cargo test`", hello.display());
    let port = free_port();
    let command = [hello.to_str().unwrap(), &port.to_string()];
    let run = start_run(User::Current, &["-n", "2"], &command);
    run.wait_for_stderr(&format!("0.0.0.0:{port}/tcp is now shared by 2: pid "));
    let mut bodies = BTreeSet::new();
    let both = harness::eventually(|| {
        let answer = ask(loopback(port), b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").ok()?;
        let answer = String::from_utf8(answer).ok()?;
        bodies.insert(answer.lines().last()?.to_owned());
        (bodies.len() == 2).then_some(())
    });
    assert!(both.is_some(), "{bodies:?}");
    assert!(bodies.iter().all(|body| body.starts_with("hello from pid ")), "{bodies:?}");
    assert_eq!(run.terminate().code, 128 + libc::SIGTERM);
}
