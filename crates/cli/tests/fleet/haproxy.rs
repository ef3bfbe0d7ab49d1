//! A real HAProxy in front of three machines.

use std::path::PathBuf;

use crate::harness::{c_program, in_test_dir, is_root, keeper, sameport, skip};
use crate::lab::parts::find;
use crate::lab::story::{self, Day};
use crate::lab::{Lab, Parts, Variant};

/// The parts of a lab; `None` if this machine lacks one.
fn parts(test: &str) -> Option<Parts> {
    if !is_root() {
        skip(test, "needs root: network namespaces");
        return None;
    }
    let Some(haproxy) = find("haproxy") else {
        skip(test, "no haproxy");
        return None;
    };
    for program in ["ip", "unshare", "nsenter"] {
        if find(program).is_none() {
            skip(test, &format!("no {program}"));
            return None;
        }
    }
    let directory = in_test_dir(test);
    std::fs::create_dir(&directory).unwrap();
    Some(Parts {
        sameport: sameport().to_path_buf(),
        newer: copy_of_sameport(),
        fleet: c_program("fleet", &[]),
        haproxy,
        directory,
        environment: vec![(keeper::MARK.to_owned(), in_test_dir(""))],
    })
}

/// The same build, as another file.
fn copy_of_sameport() -> PathBuf {
    let file = in_test_dir("sameport-newer");
    if !file.exists() {
        std::fs::hard_link(sameport(), &file).unwrap();
    }
    file
}

/// Runs the deployments of a day, and compares what the clients lost with nothing.
fn a_day_loses_nothing(test: &str, variant: Variant, changed: usize) {
    const REQUESTS: u64 = 10_000;
    let Some(parts) = parts(test) else { return };
    let day = Day { variant, changed, requests: REQUESTS, pause: 4_000 };
    let mut steps = Vec::new();
    let counts = story::run_day(&parts, day, &mut |step, counts| {
        steps.push(format!("{step}: {counts:?}"));
    });
    let counts = counts.unwrap_or_else(|error| panic!("{steps:#?}\n{error}"));
    assert!(counts["answered"] >= REQUESTS, "{counts:?}");
    let lost = counts.iter().filter(|(kind, count)| **kind != "answered" && **count > 0).count();
    assert_eq!(lost, 0, "{counts:?}\n{steps:#?}");
}

#[test]
fn a_day_with_a_connection_for_each_request() {
    let variant = Variant { http_check: false, keeps_alive: false };
    a_day_loses_nothing("fleet-close", variant, 3);
}

/// A worker with connections that HAProxy keeps open ends after 5 quiet seconds, so fewer machines change.
#[test]
fn a_day_with_connections_that_stay_open() {
    let variant = Variant { http_check: true, keeps_alive: true };
    a_day_loses_nothing("fleet-keep-alive", variant, 1);
}

/// HAProxy's table shows what the agent says: a part of the weight, a drain, the reason of an end.
#[test]
fn the_table_of_haproxy_follows_the_run() {
    let Some(parts) = parts("fleet-table") else { return };
    let variant = Variant { http_check: false, keeps_alive: false };
    let lab = Lab::start(&parts, variant).unwrap();
    let (balancer, machine) = (&lab.balancer, &lab.machines[0]);
    let table = || balancer.log();
    balancer.wait_for_weight(1, "100").unwrap();
    // Worker 2 listens when the file has gone.
    let gate = parts.directory.join("m1/closed");
    std::fs::write(&gate, "").unwrap();
    let fleet = parts.fleet.display();
    let waits = format!("while [ -e {} ]; do sleep 0.05; done; exec ", gate.display());
    let script =
        format!("[ $SAMEPORT_WORKER = 2 ] && {waits} {fleet} serve 8080; exec {fleet} serve 8080");
    machine.leave(&parts.sameport, "1s").unwrap();
    balancer.wait_for(1, "DOWN").unwrap();
    // HAProxy's own check can be the first to see the end.
    balancer.wait_for_agent(1, "via agent : down (the run has ended)").unwrap();
    machine.start_server(&parts.sameport, &["/bin/sh", "-c", &script]).unwrap();
    balancer.wait_for(1, "UP").unwrap();
    balancer.wait_for_weight(1, "50").unwrap();
    std::fs::remove_file(&gate).unwrap();
    balancer.wait_for_weight(1, "100").unwrap();
    std::thread::scope(|scope| {
        let leaving = scope.spawn(|| machine.leave(&parts.sameport, "1h"));
        balancer.wait_for(1, "DRAIN").unwrap();
        assert_eq!(balancer.figure("m2", "status").unwrap(), "UP", "{}", table());
        machine.sameport(&parts.sameport, &["stop", "web", "--now"]).unwrap();
        leaving.join().unwrap().unwrap();
    });
    balancer.wait_for(1, "DOWN").unwrap();
}
