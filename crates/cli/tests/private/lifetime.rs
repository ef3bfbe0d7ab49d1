//! Named runs: held sockets and sockets that outlive the supervisor stay private.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::net::TcpListener;

use serde_json::Value;
use socket2::Type;

use crate::harness::named_run::{NamedRun, RunSetup, responder, while_clients_served};
use crate::harness::service::Service;
use crate::harness::{User, c_program, eventually, free_port, is_root, kill, script, skip, start};
use crate::intruder::Intruder;

fn drains() -> String {
    c_program("drains", &[]).into_os_string().into_string().unwrap()
}

fn run(options: &[&str]) -> NamedRun {
    RunSetup::new(User::Current).run(options, &[&*drains(), "{port}"])
}

/// Asserts that no intruder can join and that all sockets have one owner without an account.
/// Returns the owner.
#[track_caller]
fn owner(address: SocketAddr) -> u64 {
    for intruder in Intruder::all() {
        let error = intruder.bind(Type::STREAM, address).map(drop).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{intruder:?}");
    }
    let listed = start(User::Current, &["ls", "--json", "--tcp", &address.to_string()]).wait();
    let report: Value = serde_json::from_str(&listed.stdout).unwrap();
    let members = report["groups"][0]["members"].as_array().unwrap();
    assert!(members.iter().all(|member| member["private"] == true), "{report}");
    let owners: BTreeSet<u64> =
        members.iter().map(|member| member["uid"].as_u64().unwrap()).collect();
    assert_eq!(owners.len(), 1, "{report}");
    *owners.first().unwrap()
}

#[test]
fn held_sockets_stay_private() {
    if !is_root() {
        return skip("private-named", "needs root");
    }
    for options in [&["--private", "-n", "2"][..], &["--private", "-n", "2", "--queue", "shared"]] {
        let run = run(options);
        let address = run.setup.address();
        let before = run.wait_for_ready(2);
        let first = owner(address);
        kill(*before.first().unwrap(), libc::SIGKILL);
        let replaced = eventually(|| (run.wait_for_ready(2) != before).then_some(()));
        assert!(replaced.is_some(), "{}", run.supervisor.stderr());
        assert_eq!(owner(address), first);
        while_clients_served(&run, address, || run.verb("restart", &[]));
        assert_eq!(owner(address), first);
        run.verb("scale", &["3"]);
        run.wait_for_ready(3);
        assert_eq!(owner(address), first);
        while_clients_served(&run, address, || run.verb("reexec", &[]));
        assert_eq!(owner(address), first);
        while_clients_served(&run, address, || run.verb("restart", &[]));
        run.wait_for_ready(3);
        assert_eq!(owner(address), first);
        let status = run.status();
        assert_eq!(status["addresses"][0]["held"], true, "{status}");
        assert!(status.to_string().contains("nobody else can join its ports"), "{status}");
        run.stop();
    }
}

/// Both wildcards with an open connection each: the sockets of the replacement join.
#[test]
fn workers_with_open_connections_are_replaced() {
    if !is_root() {
        return skip("private-named", "needs root");
    }
    let program = script("serve.py").into_os_string().into_string().unwrap();
    let run = RunSetup::new(User::Current).run(
        &["--private", "-n", "2", "--grace", "2s", "--drain-timeout", "1s"],
        &["/usr/bin/env", "python3", &program, "{port}"],
    );
    run.wait_for_ready(2);
    let port = run.setup.port;
    for _ in 0..2 {
        let both =
            [SocketAddr::from(([127, 0, 0, 1], port)), ([0, 0, 0, 0, 0, 0, 0, 1u16], port).into()];
        let clients = both.map(|address| {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            client.write_all(b"GET / HTTP/1.0\r\n").unwrap();
            client
        });
        run.verb("restart", &[]);
        run.wait_for_ready(2);
        drop(clients);
        both.into_iter().for_each(owner_of_wildcard);
    }
    run.stop();
}

/// [`owner`] for an address that a listed wildcard covers.
fn owner_of_wildcard(address: SocketAddr) {
    for intruder in Intruder::all() {
        assert!(intruder.bind(Type::STREAM, address).is_err(), "{intruder:?}");
    }
}

/// While no worker is alive, the held socket refuses every intruder.
#[test]
fn no_intruder_binds_while_no_worker_is_alive() {
    if !is_root() {
        return skip("private-named", "needs root");
    }
    let setup = RunSetup::new(User::Current);
    let program = drains();
    let command = setup.gated_command(&[&program, "{port}"]);
    let run = setup.run(&["--private"], &command);
    let before = run.wait_for_ready(1);
    let address = run.setup.address();
    let first = owner(address);
    run.setup.close_gate();
    kill(*before.first().unwrap(), libc::SIGKILL);
    let gone = eventually(|| (!before.contains(&run.wait_for_worker(1))).then_some(()));
    assert!(gone.is_some(), "{}", run.supervisor.stderr());
    assert_eq!(owner(address), first);
    run.setup.open_gate();
    run.wait_for_ready(1);
    responder(address).unwrap();
    assert_eq!(owner(address), first);
    run.stop();
}

#[test]
fn passed_socket_is_private_from_its_creation() {
    if !is_root() {
        return skip("private-named", "needs root");
    }
    let setup = RunSetup::new(User::Current);
    let address = setup.address();
    let program = script("serve_passed.py").into_os_string().into_string().unwrap();
    let options = ["--private", "--listen", "127.0.0.1:{port}", "-n", "2"];
    let run = setup.run(&options, &["/usr/bin/env", "python3", &program]);
    run.wait_for_ready(2);
    owner(address);
    run.stop();

    // A bare port, and a port that is in use.
    let setup = RunSetup::new(User::Current);
    let address = setup.address();
    let run =
        setup.run(&["--private", "--listen", "{port}"], &["/usr/bin/env", "python3", &program]);
    run.wait_for_ready(1);
    let every: SocketAddr = format!("[::]:{}", address.port()).parse().unwrap();
    owner(every);
    owner(wildcard_address(address));
    let other =
        RunSetup { name: format!("{}-other", run.setup.name), ..RunSetup::new(User::Current) };
    let taken = address.port().to_string();
    let options = ["--private", "--listen", &taken];
    let refused = crate::harness::spawn_process(other.run_command(&options, &["true"])).wait();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("--listen [::]:"), "{refused:?}");
    run.stop();
}

/// The dual-stack wildcard that the listing has in place of the IPv4 one.
fn wildcard_address(address: SocketAddr) -> SocketAddr {
    format!("[::]:{}", address.port()).parse().unwrap()
}

#[test]
fn sockets_in_the_fd_store_stay_private() {
    if !is_root() {
        return skip("private-named", "needs root");
    }
    let port = free_port();
    let (number, address) = (port.to_string(), SocketAddr::from(([127, 0, 0, 1], port)));
    let options = ["--private", "-n", "2", "--ready", "tcp"];
    let service = Service::start(User::Current, &[], &options, &[&*drains(), &number]);
    service.wait_for_lines("told READY=1", 1);
    service.wait_for_lines("stored sameport-", 2);
    let first = owner(address);
    service.tell_manager("kill");
    service.wait_for_lines("ended -9", 1);
    for intruder in Intruder::all() {
        assert!(intruder.bind(Type::STREAM, address).is_err(), "{intruder:?}");
    }
    service.tell_manager("start");
    service.wait_for_lines("told READY=1", 2);
    assert_eq!(owner(address), first);
    assert_eq!(service.status()["addresses"][0]["held"], true);
    service.stop();
}

/// A socket bound by the service manager is refused, because a process of its user could have
/// joined it before.
#[test]
fn socket_unit_is_refused() {
    if !is_root() {
        return skip("private-named", "needs root");
    }
    let unit = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = unit.local_addr().unwrap().port().to_string();
    let service = Service::start(User::Current, &[&unit], &["--private"], &[&*drains(), &port]);
    service.manager.wait_for_stderr("too late for --private");
    service.tell_manager("stop");
    service.wait_for_lines("ended 3", 1);
}
