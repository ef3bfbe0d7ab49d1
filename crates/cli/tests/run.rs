//! `sameport run`: the way a user sees it.
#![cfg(target_os = "linux")]

mod stage;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use stage::{PATIENCE, User, ask, c_program, free_port, start_command, start_run};

fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// The pids that answer there, asked until `count` different ones have, or patience ends.
fn pids_answering(address: SocketAddr, count: usize) -> BTreeSet<i32> {
    let mut pids = BTreeSet::new();
    let until = std::time::Instant::now() + PATIENCE;
    while pids.len() < count && std::time::Instant::now() < until {
        if let Ok(answer) = ask(address, b"") {
            pids.insert(String::from_utf8(answer).unwrap().trim().parse().unwrap());
        }
    }
    pids
}

#[test]
fn two_runs_share_a_port_and_without_run_the_second_is_refused() {
    let who = c_program("who", &["-static"]);
    for user in User::all() {
        let port = free_port();
        let command = [who.to_str().unwrap(), "tcp", "127.0.0.1", &port.to_string()];

        let first = start_run(*user, &[], &command);
        stage::wait_until_answering(loopback(port));
        let second = start_run(*user, &[], &command);
        second.wait_for_stderr(&format!("127.0.0.1:{port} is now shared by 2: pid "));
        assert_eq!(pids_answering(loopback(port), 2).len(), 2);

        let alone = start_command(*user, command[0], &command[1..]).ended();
        assert_eq!((alone.code, alone.stderr.as_str()), (1, "bind: Address already in use\n"));

        for run in [first, second] {
            let ended = run.terminate();
            assert_eq!(ended.code, 128 + libc::SIGTERM, "{ended:?}");
            assert_eq!(ended.stdout, "");
        }
    }
}
