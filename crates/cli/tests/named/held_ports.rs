//! A port that another program holds: the workers wait for it.

use std::net::TcpListener;

use serde_json::Value;

use crate::harness::named_run::{NamedRun, RunSetup, responder, rogue_command};
use crate::harness::{User, eventually};

/// A process of the test holds the port, without SO_REUSEPORT. std sets SO_REUSEADDR.
fn hold(setup: &RunSetup) -> TcpListener {
    TcpListener::bind(setup.address()).unwrap()
}

#[track_caller]
fn wait_for_worker(run: &NamedRun, what: impl Fn(&Value) -> bool) -> Value {
    let found = eventually(|| {
        let worker = run.status()["workers"][0].clone();
        what(&worker).then_some(worker)
    });
    found.unwrap_or_else(|| panic!("{}\n{}", run.status(), run.supervisor.stderr()))
}

#[test]
fn workers_wait_for_a_held_port() {
    for user in User::all() {
        for via in ["seccomp", "preload"] {
            let setup = RunSetup::new(*user);
            let held = hold(&setup);
            let options = ["--via", via, "--max-restarts", "3"];
            let run = setup.run(&options, &rogue_command("good"));
            let address = run.setup.address();
            let waits = format!("waits for {address}, held by ");
            let worker = wait_for_worker(&run, |worker| {
                worker["state"] == "waiting"
                    && worker["why"].as_str().is_some_and(|why| why.starts_with(&waits))
            });
            assert_eq!(worker["next_start"], Value::Null, "{worker}");
            let why = worker["why"].as_str().unwrap();
            // An unprivileged run does not see the process of another user.
            // A process that another test has just forked has the socket until its exec: "and 1 more".
            let pid = std::process::id();
            let named =
                ["", " and 1 more", " and 2 more"].map(|more| format!("(pid {pid}{more}, user "));
            let is_named = named.iter().any(|holder| why.contains(holder));
            assert!(*user == User::Nobody || is_named, "{via}: {why}");
            let text = run.try_verb("status", &[]).stdout;
            assert!(text.contains(&format!("note: worker 1: {waits}")), "{text}");
            run.supervisor.wait_for_stderr("worker 1 starts again later: waits for ");
            drop(held);
            let pid = run.wait_for_ready(1).pop_first().unwrap();
            assert_eq!(responder(address).unwrap(), pid.to_string());
            // Now a crash counts again, and its reason is its own.
            crate::harness::kill(pid, libc::SIGSEGV);
            run.supervisor.wait_for_stderr("killed by SIGSEGV");
            let worker = wait_for_worker(&run, |worker| {
                worker["state"] == "ready" && worker["restarts"] == 1
            });
            assert_eq!(worker["last_exit"], "killed by SIGSEGV", "{worker}");
            run.stop();
        }
    }
}

/// A worker that tries again by itself is left alone, and `status` says what it waits for.
#[test]
fn a_worker_that_retries_is_left_alone() {
    let setup = RunSetup::new(User::Current);
    let held = hold(&setup);
    let retry = "while :; do \"$0\" \"$@\"; sleep 0.1; done";
    let words: Vec<String> =
        ["sh", "-c", retry].map(str::to_owned).into_iter().chain(rogue_command("good")).collect();
    let run = setup.run(&[], &words);
    let worker = wait_for_worker(&run, |worker| {
        worker["state"] == "starting"
            && worker["why"].as_str().is_some_and(|why| why.starts_with("waits for "))
    });
    drop(held);
    let ready = wait_for_worker(&run, |worker| worker["state"] == "ready");
    assert_eq!(ready["pid"], worker["pid"]);
    assert_eq!(ready["why"], Value::Null);
    run.stop();
}

/// A worker that listens elsewhere serves, whatever it was refused.
#[test]
fn another_port_is_good_enough() {
    let setup = RunSetup::new(User::Current);
    let _held = hold(&setup);
    let free = crate::harness::free_port();
    let script = format!("\"$0\" \"$@\"; exec \"$0\" good {free}");
    let words: Vec<String> =
        ["sh", "-c", &script].map(str::to_owned).into_iter().chain(rogue_command("good")).collect();
    let run = setup.run(&[], &words);
    let worker = wait_for_worker(&run, |worker| worker["state"] == "ready");
    assert_eq!(worker["why"], Value::Null, "{worker}");
    run.stop();
}

/// The run ends although it waits for a port.
#[test]
fn a_waiting_run_can_be_stopped() {
    let setup = RunSetup::new(User::Current);
    let _held = hold(&setup);
    let run = setup.run(&["-n", "3"], &rogue_command("good"));
    run.supervisor.wait_for_stderr("worker 3 starts again later: waits for ");
    let exited = run.try_verb("restart", &[]);
    assert_eq!(exited.code, 1, "{exited:?}");
    run.stop();
}
