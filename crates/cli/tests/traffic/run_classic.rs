//! `run --policy` without a privilege, by classic BPF.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::harness::named_run::{
    NamedRun, RunSetup, connect, read, send_request, while_clients_served,
};
use crate::harness::{Process, User, eventually, free_port, in_test_dir, kill, skip, start_run};
use crate::servers::{answer_from, answer_within, answers, server, unprivileged};

/// Starts a plain run, and waits until all its workers answer.
fn plain(policy: &str, copies: usize, port: u16) -> Option<Process> {
    let mut command = server()?;
    let last = command.len() - 1;
    command[last] = port.to_string();
    let copies = copies.to_string();
    let run = start_run(unprivileged(), &["-n", &copies, "--policy", policy], &command);
    run.wait_for_stderr(&format!("is now shared by {copies}"));
    Some(run)
}

/// Which worker answers each of these clients.
fn by_client(port: u16) -> BTreeMap<IpAddr, i32> {
    let clients = (2..34).map(|last| IpAddr::from([127, 0, 0, last]));
    let to = ([127, 0, 0, 1], port).into();
    clients.map(|client| (client, answer_from(client, to).unwrap())).collect()
}

/// A client keeps its worker. The clients of a worker that has ended spread over the others; nobody else
/// moves.
#[test]
fn a_plain_run_is_sticky() {
    let port = free_port();
    let Some(run) = plain("sticky", 4, port) else {
        return skip("traffic-sticky", "no python3");
    };
    let first = by_client(port);
    assert_eq!(by_client(port), first);
    let workers: BTreeSet<i32> = first.values().copied().collect();
    assert!(workers.len() > 2, "{first:?}");
    let ended = *workers.first().unwrap();
    kill(ended, libc::SIGKILL);
    run.wait_for_stderr("3 still running");
    let is_stable = |now: &BTreeMap<IpAddr, i32>| {
        first.iter().all(|(client, worker)| match *worker == ended {
            true => now[client] != ended,
            false => now[client] == *worker,
        })
    };
    let mut now = BTreeMap::new();
    let stable = eventually(|| {
        now = by_client(port);
        is_stable(&now).then_some(())
    });
    assert!(stable.is_some(), "{ended} ended: {first:?}, now {now:?}");
    run.terminate();
}

/// The second worker serves only when the first has ended.
#[test]
fn a_plain_run_has_a_standby() {
    let port = free_port();
    let Some(run) = plain("standby", 3, port) else {
        return skip("traffic-standby", "no python3");
    };
    let to = ([127, 0, 0, 1], port).into();
    let mut before = BTreeSet::new();
    for left in [2, 1] {
        let served = eventually(|| {
            let served: Vec<i32> = answers(to, 10).into_keys().collect();
            served.iter().all(|pid| !before.contains(pid)).then_some(served)
        });
        let served = served.unwrap();
        assert_eq!(served.len(), 1, "{served:?}");
        kill(served[0], libc::SIGKILL);
        before.extend(served);
        run.wait_for_stderr(&format!("{left} still running"));
    }
    run.terminate();
}

/// A policy that this user cannot have starts nothing, and the error says what could.
#[test]
fn a_policy_that_needs_a_privilege_is_refused() {
    let user = unprivileged();
    if user == User::Current && crate::harness::is_root() {
        return skip("traffic-refused", "no user without privileges");
    }
    let proof = in_test_dir("policy-started");
    let command = ["touch", proof.to_str().unwrap()];
    let refused = |options: &[&str], code: i32, words: &[&str]| {
        let exited = start_run(user, options, &command).wait();
        assert_eq!(exited.code, code, "{options:?}: {exited:?}");
        for word in words {
            assert!(exited.stderr.contains(word), "{options:?}: {exited:?}");
        }
        assert!(!proof.exists(), "{options:?} started the command");
    };
    for policy in ["least-connections", "two-choices", "round-robin"] {
        let words = [policy, "eBPF", "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"];
        refused(&["-n", "4", "--policy", policy], 3, &words);
        refused(&["--name", "refused", "--policy", policy], 3, &words);
    }
    refused(&["--policy", "random", "--via", "preload"], 3, &["--via preload", "eBPF"]);
    let no_hold = ["--policy", "random", "--name", "refused", "--no-hold"];
    refused(&no_hold, 3, &["--no-hold", "eBPF"]);
    refused(&["--policy", "leest-connections"], 2, &["the nearest is least-connections"]);
    let shared = ["--policy", "random", "--name", "refused", "--queue", "shared"];
    refused(&shared, 2, &["--queue shared", "leave one of the two out"]);
    let listen = ["--policy", "random", "--name", "refused", "--listen", "127.0.0.1:1"];
    refused(&listen, 2, &["--listen"]);
}

fn named(options: &[&str]) -> Option<NamedRun> {
    let mut command = server()?;
    command.push("6".to_owned());
    Some(RunSetup::new(unprivileged()).run(options, &command))
}

/// The policy holds while workers restart, come and go, and after the supervisor was replaced; the two
/// sockets of a worker are one member.
#[test]
fn a_named_run_keeps_its_policy() {
    let Some(run) = named(&["-n", "3", "--policy", "standby"]) else {
        return skip("traffic-named", "no python3");
    };
    let (v4, v6) = (run.setup.address(), ([0, 0, 0, 0, 0, 0, 0, 1], run.setup.port).into());
    run.wait_for_ready(3);
    let only_first = |context: &str| {
        let status = run.status();
        let traffic = &status["traffic"][0];
        assert_eq!(traffic["rules"]["policy"], "standby", "{context}: {status}");
        assert_eq!(traffic["tier"], "classic", "{context}: {status}");
        assert!(traffic["not_in_force"].is_null(), "{context}: {status}");
        let members = traffic["members"].as_array().unwrap();
        let ranks: Vec<u64> = members.iter().map(|it| it["rank"].as_u64().unwrap()).collect();
        assert_eq!(ranks, [0, 1, 2], "{context}: {status}");
        let first = i32::try_from(members[0]["pid"].as_i64().unwrap()).unwrap();
        assert_eq!(members[0]["addresses"].as_array().unwrap().len(), 2, "{context}: {status}");
        for to in [v4, v6] {
            let answers = answers(to, 12);
            assert_eq!(answers.into_keys().collect::<Vec<_>>(), [first], "{context}: {status}");
        }
        first
    };
    let first = only_first("at first");
    while_clients_served(&run, v4, || run.verb("restart", &[]));
    run.wait_for_ready(3);
    assert_ne!(only_first("after a restart"), first);
    while_clients_served(&run, v6, || {
        run.verb("scale", &["1"]);
        run.verb("scale", &["3"]);
    });
    run.wait_for_ready(3);
    only_first("after scale");
    while_clients_served(&run, v4, || run.verb("reexec", &[]));
    only_first("after reexec");
    let text = run.verb("status", &[]).stdout;
    assert!(text.contains(": standby, by classic BPF, in force"), "{text}");
    run.stop();
}

/// The supervisor that takes workers over knows the order of their sockets, and follows the policy.
#[test]
fn a_takeover_keeps_the_policy() {
    let Some(run) = named(&["-n", "2", "--policy", "standby"]) else {
        return skip("traffic-takeover", "no python3");
    };
    let address = run.setup.address();
    let workers = run.wait_for_ready(2);
    let NamedRun { setup, supervisor } = run;
    supervisor.signal(libc::SIGKILL);
    supervisor.wait();
    let mut command = server().unwrap();
    command.push("6".to_owned());
    let run = setup.run(&["-n", "2", "--policy", "standby"], &command);
    let replaced = eventually(|| run.wait_for_ready(2).is_disjoint(&workers).then_some(()));
    assert!(replaced.is_some(), "{}", run.supervisor.stderr());
    assert_eq!(answers(address, 12).len(), 1, "{}", run.status());
    assert_eq!(run.status()["traffic"][0]["rules"]["policy"], "standby");
    run.stop();
}

/// A worker that does not accept is named by `status`, and gets nothing new until it accepts again.
#[test]
fn a_hung_worker_gets_nothing_new() {
    let Some(run) = named(&["-n", "2", "--policy", "standby"]) else {
        return skip("traffic-hung", "no python3");
    };
    let address = run.setup.address();
    run.wait_for_ready(2);
    let first = *answers(address, 4).first_key_value().unwrap().0;
    kill(first, libc::SIGSTOP);
    // Once its accept queue has a client that it leaves there, it is hung.
    let waiting = connect(address).unwrap();
    let is_hung = || {
        let text = run.verb("status", &[]).stdout;
        text.contains(&format!("(pid {first}) is hung")).then_some(())
    };
    assert!(eventually(is_hung).is_some(), "{}", run.verb("status", &[]).stdout);
    let own = IpAddr::from([127, 0, 0, 1]);
    let limit = Duration::from_millis(300);
    let second = eventually(|| answer_within(own, address, limit).ok());
    assert_ne!(second.expect("the other worker serves"), first);
    kill(first, libc::SIGCONT);
    assert_eq!(read(send_request(waiting)).unwrap(), first.to_string());
    let is_back = || answers(address, 4).contains_key(&first).then_some(());
    assert!(eventually(is_back).is_some(), "{}", run.status());
    run.stop();
}
