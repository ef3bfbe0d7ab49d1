//! A run in the background whose supervisor was killed: the next one is in the background too.

use crate::background::{
    Background, assert_nothing_left, detach_command, drains, stat_fields, verb,
};
use crate::harness::named_run::{RunSetup, has_exited, responder};
use crate::harness::terminal::at_terminal;
use crate::harness::{User, eventually, spawn_process};

fn in_background(pid: i32) {
    let stat = stat_fields(pid);
    assert_eq!(stat[2..5], [&*pid.to_string(), &*pid.to_string(), "0"], "{stat:?}");
}

/// `restart` at a terminal, which closes afterwards.
#[test]
fn restart_is_in_the_background() {
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let (run, _) = Background::start(setup, &["-n", "2", "--wait"], &[&*drains(), "{port}"]);
        let before = run.ready(2);
        run.kill_supervisor();
        responder(run.setup.address()).unwrap();
        let mut command = run.setup.command(&["restart", &run.setup.name]);
        let terminal = at_terminal(&mut command);
        let restarted = spawn_process(command).wait();
        assert_eq!(restarted.code, 0, "{restarted:?}");
        assert!(restarted.stderr.contains("takes its place"), "{restarted:?}");
        drop(terminal);
        let next = Background::of(run.setup.clone());
        in_background(next.pid);
        assert!(next.ready(2).is_disjoint(&before));
        // The record of the next supervisor says so too.
        next.kill_supervisor();
        let again = verb(&next.setup, &["restart", "--wait"]);
        assert_eq!(again.code, 0, "{again:?}");
        let last = Background::of(next.setup.clone());
        in_background(last.pid);
        last.stop();
    }
}

/// A second `run --detach` takes the workers over, also when it waits.
#[test]
fn a_second_run_takes_over() {
    let options: [&[&str]; 2] = [&["-n", "2"], &["-n", "2", "--wait"]];
    for options in options {
        let setup = RunSetup::new(User::Current);
        let command = [&*drains(), "{port}"];
        let (run, _) = Background::start(setup, &["-n", "2", "--wait"], &command);
        let before = run.ready(2);
        run.kill_supervisor();
        let second = spawn_process(detach_command(&run.setup, options, &command)).wait();
        assert_eq!(second.code, 0, "{second:?}");
        let next = Background::of(run.setup.clone());
        in_background(next.pid);
        let gone = eventually(|| before.iter().all(|pid| has_exited(*pid)).then_some(()));
        assert!(gone.is_some());
        next.ready(2);
        next.stop();
    }
}

/// A takeover whose replacements do not get ready leaves the old workers in service, also with `--wait`.
#[test]
fn a_failed_takeover_stops_no_worker() {
    let setup = RunSetup::new(User::Current);
    let (run, _) = Background::start(setup, &["--wait"], &[&*drains(), "{port}"]);
    let before = run.ready(1);
    run.kill_supervisor();
    let bad = detach_command(&run.setup, &["--wait"], &["false"]);
    let failed = spawn_process(bad).wait();
    assert_eq!(failed.code, 1, "{failed:?}");
    let serve_on = format!("the workers that {} took over serve on", run.setup.name);
    assert!(failed.stderr.contains(&serve_on), "{failed:?}");
    responder(run.setup.address()).unwrap();
    assert!(before.iter().all(|pid| !has_exited(*pid)));
    let next = Background::of(run.setup.clone());
    next.stop();
}

/// `stop` ends what a killed supervisor left.
#[test]
fn stop_ends_what_is_left() {
    let setup = RunSetup::new(User::Current);
    let (run, _) = Background::start(setup, &["--wait"], &[&*drains(), "{port}"]);
    run.kill_supervisor();
    let stopped = verb(&run.setup, &["stop"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert_nothing_left(&run.setup);
}

/// After a `reexec` the run is in the background still: the command that starts it again says so.
#[test]
fn reexec_keeps_the_background() {
    let setup = RunSetup::new(User::Current);
    let (run, _) = Background::start(setup, &["--wait"], &[&*drains(), "{port}"]);
    let replaced = verb(&run.setup, &["reexec"]);
    assert_eq!(replaced.code, 0, "{replaced:?}");
    in_background(run.pid);
    let upgraded = verb(&run.setup, &["upgrade", "--env", "MODE=new"]);
    assert_eq!(upgraded.code, 0, "{upgraded:?}");
    let setup = run.setup.clone();
    run.stop();
    let ended = verb(&setup, &["status"]);
    assert!(ended.stderr.contains("hint: start it again: "), "{ended:?}");
    assert!(ended.stderr.contains(" --detach -- "), "{ended:?}");
}
