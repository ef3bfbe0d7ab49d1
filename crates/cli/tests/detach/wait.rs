//! `--wait`: the exit code says whether every worker is ready. A run that is not ready is stopped.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;

use crate::background::{Background, assert_nothing_left, detach_command, drains, status, verb};
use crate::harness::named_run::{RunSetup, responder};
use crate::harness::{User, eventually, executable, find_program, kill, skip, spawn_process};

#[test]
fn a_real_server_is_ready_at_the_return() {
    const TEST: &str = "a_real_server_is_ready_at_the_return";
    if find_program("python3").is_none() {
        return skip(TEST, "no python3");
    }
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let options = ["-n", "2", "--wait", "--ready", "http:/"];
        let server = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "{port}"];
        let (run, started) = Background::start(setup, &options, &server);
        let now = status(&run.setup).unwrap();
        let ready = now["workers"].as_array().unwrap().iter();
        assert_eq!(ready.filter(|worker| worker["state"] == "ready").count(), 2, "{now}");
        assert!(responder(run.setup.address()).is_ok(), "{started:?}");
        for worker in [1, 2] {
            let line = format!("worker {worker} (pid ");
            let mut lines = started.stderr.lines();
            let ready = lines.any(|it| it.starts_with(&line) && it.ends_with(" is ready"));
            assert!(ready, "{started:?}");
        }
        assert_eq!(started.stdout.lines().count(), 1, "{started:?}");
        run.stop();
    }
}

/// A worker that crashes: its end is named, the run is stopped, and `status` knows how it ended.
#[test]
fn a_worker_that_crashes() {
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let crashes = executable("crashes", "#!/bin/sh\necho it breaks here >&2\nexit 3\n");
        let log = setup.dir.join("log");
        let options = ["--wait", "--log", log.to_str().unwrap()];
        let command = [crashes.to_str().unwrap()];
        let failed = spawn_process(detach_command(&setup, &options, &command)).wait();
        let name = &setup.name;
        assert_eq!((failed.code, &*failed.stdout), (1, ""), "{failed:?}");
        let error =
            format!("error: worker 1 did not get ready: exited with 3; {name} was stopped\n");
        assert!(failed.stderr.contains(&error), "{failed:?}");
        assert!(failed.stderr.contains("1 | it breaks here\n"), "{failed:?}");
        assert_nothing_left(&setup);
        let shown = verb(&setup, &["status"]);
        assert!(shown.stdout.contains("exited with 3"), "{shown:?}");
    }
}

/// The error of a bind is that of the foreground.
#[test]
fn an_address_in_use() {
    let setup = RunSetup::new(User::Current);
    let holder = TcpListener::bind(setup.address()).unwrap();
    let command = [&*drains(), "{port}"];
    let failed = spawn_process(detach_command(&setup, &["--wait"], &command)).wait();
    assert_eq!(failed.code, 1, "{failed:?}");
    let held = format!("error: port {} is held by ", setup.port);
    assert!(failed.stderr.contains(&held), "{failed:?}");
    assert!(failed.stderr.contains("\nhint: share it: "), "{failed:?}");
    assert!(failed.stderr.contains("error: worker 1 did not get ready: "), "{failed:?}");
    assert_nothing_left(&setup);
    drop(holder);
}

/// A worker that does not get ready within the time.
#[test]
fn a_worker_that_listens_nowhere() {
    let setup = RunSetup::new(User::Current);
    let options = ["--wait=300ms", "--expect", "{port}"];
    let failed = spawn_process(detach_command(&setup, &options, &["sleep", "1000"])).wait();
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.stderr.contains("error: worker 1 is not ready"), "{failed:?}");
    let ending = format!(", after 0.3 s; {} was stopped\n", setup.name);
    assert!(failed.stderr.contains(&ending), "{failed:?}");
    assert_nothing_left(&setup);
}

/// Ctrl-C ends the wait. The run goes on, and gets ready.
#[test]
fn ctrl_c_ends_the_wait_only() {
    let setup = RunSetup::new(User::Current);
    setup.close_gate();
    let command = setup.gated_command(&[&drains(), "{port}"]);
    let mut command = detach_command(&setup, &["--wait"], &command);
    command.process_group(0);
    let front = spawn_process(command);
    front.wait_for_stderr("Ctrl-C ends the wait, not the run");
    // As the terminal does: the whole group.
    kill(front.pid(), libc::SIGINT);
    assert_eq!(front.wait().code, 128 + libc::SIGINT);
    let run = Background::of(setup);
    run.setup.open_gate();
    run.ready(1);
    responder(run.setup.address()).unwrap();
    run.stop();
}

/// `restart` and `scale` wait without an option; with one they return earlier.
#[test]
fn changes_are_waited_for_as_long_as_the_user_wants() {
    let setup = RunSetup::new(User::Current);
    let command = setup.gated_command(&[&drains(), "{port}"]);
    let (run, _) = Background::start(setup, &["--wait"], &command);
    let before = run.ready(1);
    let gate = |words: &[&str]| {
        run.setup.close_gate();
        let exited = verb(&run.setup, words);
        run.setup.open_gate();
        exited
    };
    let begun = gate(&["restart", "--no-wait"]);
    assert_eq!(begun.code, 0, "{begun:?}");
    assert!(begun.stderr.contains(" has begun; `sameport status "), "{begun:?}");
    let after = eventually(|| Some(run.ready(1)).filter(|now| now.is_disjoint(&before)));
    assert!(after.is_some());

    let goes_on = gate(&["scale", "2", "--wait=100ms"]);
    assert_eq!(goes_on.code, 1, "{goes_on:?}");
    let error = format!("the change of {} to 2 workers is not done after 0.1 s", run.setup.name);
    assert!(goes_on.stderr.contains(&error), "{goes_on:?}");
    run.ready(2);
    assert!(
        eventually(|| (verb(&run.setup, &["scale", "3", "--wait"]).code == 0).then_some(()))
            .is_some()
    );
    run.ready(3);
    let json = verb(&run.setup, &["restart", "--json", "--no-wait"]);
    assert!(json.stdout.ends_with("{\"event\":\"begun\"}\n"), "{json:?}");
    let both = verb(&run.setup, &["restart", "--wait", "--no-wait"]);
    assert_eq!(both.code, 2, "{both:?}");
    run.stop();
}
