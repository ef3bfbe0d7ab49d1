//! Named runs: held sockets, and those that outlive the supervisor, stay the group's.

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

/// Nobody joins, and every socket there has one owner, which is no user; gives it.
#[track_caller]
fn owner(address: SocketAddr) -> u64 {
    for intruder in Intruder::all() {
        let error = intruder.takes(Type::STREAM, address).map(drop).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{intruder:?}");
    }
    let listed = start(User::Current, &["ls", "--json", "--tcp", &address.to_string()]).wait();
    let told: Value = serde_json::from_str(&listed.stdout).unwrap();
    let members = told["groups"][0]["members"].as_array().unwrap();
    assert!(members.iter().all(|member| member["private"] == true), "{told}");
    let owners: BTreeSet<u64> =
        members.iter().map(|member| member["uid"].as_u64().unwrap()).collect();
    assert_eq!(owners.len(), 1, "{told}");
    *owners.first().unwrap()
}

#[test]
fn held_sockets_stay_the_groups_whatever_becomes_of_workers() {
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

/// Both wildcards, and a connection open to each: the replacement's sockets join all the same.
#[test]
fn workers_with_open_connections_are_replaced() {
    if !is_root() {
        return skip("private-named", "needs root");
    }
    let program = script("serve.py").into_os_string().into_string().unwrap();
    let run = RunSetup::new(User::Current).run(
        &["--private", "-n", "2", "--grace", "2s"],
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
        both.into_iter().for_each(owner_of_what_covers);
    }
    run.stop();
}

/// As [`owner`], where the listing has the wildcard.
fn owner_of_what_covers(address: SocketAddr) {
    for intruder in Intruder::all() {
        assert!(intruder.takes(Type::STREAM, address).is_err(), "{intruder:?}");
    }
}

/// While no worker lives, the held socket keeps everybody out.
#[test]
fn nobody_takes_the_port_while_no_worker_lives() {
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
fn a_socket_that_is_passed_is_the_groups_from_its_first_moment() {
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

    // All that a plain run can have: a bare port, and one that is taken.
    let setup = RunSetup::new(User::Current);
    let address = setup.address();
    let run =
        setup.run(&["--private", "--listen", "{port}"], &["/usr/bin/env", "python3", &program]);
    run.wait_for_ready(1);
    let every: SocketAddr = format!("[::]:{}", address.port()).parse().unwrap();
    owner(every);
    owner(address_of_all(address));
    let other =
        RunSetup { name: format!("{}-other", run.setup.name), ..RunSetup::new(User::Current) };
    let taken = address.port().to_string();
    let options = ["--private", "--listen", &taken];
    let refused = crate::harness::spawn_process(other.run_command(&options, &["true"])).wait();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("--listen [::]:"), "{refused:?}");
    run.stop();
}

/// The listing has a dual-stack wildcard under the address that it is bound to.
fn address_of_all(address: SocketAddr) -> SocketAddr {
    format!("[::]:{}", address.port()).parse().unwrap()
}

#[test]
fn sockets_that_the_service_manager_keeps_stay_the_groups() {
    if !is_root() {
        return skip("private-named", "needs root");
    }
    let port = free_port();
    let (number, address) = (port.to_string(), SocketAddr::from(([127, 0, 0, 1], port)));
    let options = ["--private", "-n", "2", "--ready", "tcp"];
    let service = Service::start(User::Current, &[], &options, &[&*drains(), &number]);
    service.wait_until_said("told READY=1", 1);
    service.wait_until_said("stored sameport-", 2);
    let first = owner(address);
    service.order("kill");
    service.wait_until_said("ended -9", 1);
    for intruder in Intruder::all() {
        assert!(intruder.takes(Type::STREAM, address).is_err(), "{intruder:?}");
    }
    service.order("start");
    service.wait_until_said("told READY=1", 2);
    assert_eq!(owner(address), first);
    assert_eq!(service.status()["addresses"][0]["held"], true);
    service.stop();
}

/// It was bound before we had it: whoever has its user could have joined already.
#[test]
fn a_socket_unit_is_refused() {
    if !is_root() {
        return skip("private-named", "needs root");
    }
    let unit = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = unit.local_addr().unwrap().port().to_string();
    let service = Service::start(User::Current, &[&unit], &["--private"], &[&*drains(), &port]);
    service.manager.wait_for_stderr("too late for --private");
    service.order("stop");
    service.wait_until_said("ended 3", 1);
}
