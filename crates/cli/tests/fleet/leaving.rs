//! `stop --announce`: the run serves on while load balancers hear that it leaves.

use serde_json::Value;

use crate::fixture::{Agent, run};
use crate::harness::named_run::{NamedRun, responder, while_clients_served};
use crate::harness::{Process, spawn_process};

/// Announces a stop that is not waited for.
fn announce(run: &NamedRun, time: &str) -> Process {
    let words = ["stop", &run.setup.name, "--announce", time, "--wait"];
    spawn_process(run.setup.command(&words))
}

#[test]
fn a_run_serves_on_while_it_is_announced() {
    let run = run(&["-n", "2"]);
    let agent = Agent::start(&run.setup, &[&run.setup.name]);
    let before = run.wait_for_ready(2);
    let to = run.setup.address();
    let stop = while_clients_served(&run, to, || {
        let stop = announce(&run, "1h");
        run.supervisor.wait_for_stderr("the run leaves: it serves on for 3600 s and then stops");
        agent.wait_for("", "drain\n");
        let status = run.status();
        assert_eq!(status["leaving"], true, "{status}");
        assert!(status["stops_at"].as_u64() > status["since"].as_u64(), "{status}");
        let text = run.verb("status", &[]).stdout;
        assert!(
            text.contains("leaving: load balancers hear of it, and the run stops in "),
            "{text}"
        );
        for (verb, rest) in [("restart", &[][..]), ("scale", &["3"]), ("reexec", &[])] {
            let exited = run.try_verb(verb, rest);
            assert_eq!(exited.code, 1, "{verb}: {exited:?}");
            assert!(exited.stderr.contains("error: the run leaves, as "), "{verb}: {exited:?}");
            assert!(exited.stderr.contains("\nhint: start it again when"), "{verb}: {exited:?}");
        }
        assert_eq!(run.wait_for_ready(2), before);
        stop
    });
    // A second announcement hurries the first one.
    let second = announce(&run, "100ms");
    for client in [stop, second] {
        let exited = client.wait();
        assert_eq!(exited.code, 0, "{exited:?}");
        assert!(exited.stderr.contains("worker 2 (pid "), "{exited:?}");
        assert!(exited.stderr.contains(&format!("{} has stopped", run.setup.name)), "{exited:?}");
    }
    assert!(responder(to).is_err());
    let name = run.setup.name.clone();
    assert!(agent.process.stderr().contains(&format!("{name}: leaving\n")));
    run.wait_for_exit(0);
}

#[test]
fn a_stop_and_a_signal_end_the_announcement() {
    for by_signal in [false, true] {
        let run = run(&[]);
        run.wait_for_ready(1);
        assert_eq!(run.status()["leaving"], Value::Bool(false));
        let announced = announce(&run, "1h");
        run.supervisor.wait_for_stderr("the run leaves");
        match by_signal {
            false => drop(run.verb("stop", &[])),
            true => run.supervisor.signal(libc::SIGTERM),
        }
        let exited = announced.wait();
        assert_eq!(exited.code, 0, "{by_signal}: {exited:?}");
        run.wait_for_exit(0);
    }
}

#[test]
fn a_worker_that_crashes_meanwhile_is_restarted() {
    let run = run(&[]);
    let before = run.wait_for_ready(1);
    let announced = announce(&run, "1h");
    run.supervisor.wait_for_stderr("the run leaves");
    before.iter().for_each(|pid| crate::harness::kill(*pid, libc::SIGKILL));
    let again = crate::harness::eventually(|| (run.wait_for_ready(1) != before).then_some(()));
    assert!(again.is_some(), "{}", run.supervisor.stderr());
    run.verb("stop", &["--now"]);
    assert_eq!(announced.wait().code, 0);
    run.wait_for_exit(0);
}

#[test]
fn a_change_under_way_ends_when_the_stop_begins() {
    let run = run(&["--ready", "http:/healthz", "--ready-timeout", "1h"]);
    run.wait_for_ready(1);
    std::fs::write(run.setup.dir.join("status"), "500").unwrap();
    let restart = spawn_process(run.setup.command(&["restart", &run.setup.name]));
    run.supervisor.wait_for_stderr("worker 1 (pid ");
    let is_starting = crate::harness::eventually(|| {
        (run.status()["workers"].as_array()?.len() == 2).then_some(())
    });
    assert!(is_starting.is_some(), "{}", run.supervisor.stderr());
    let announced = announce(&run, "500ms");
    let exited = restart.wait();
    assert_eq!(exited.code, 1, "{exited:?}");
    assert!(exited.stderr.contains("the run was stopped meanwhile"), "{exited:?}");
    let exited = announced.wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    run.wait_for_exit(0);
}
