//! `steer` and `drain` of the workers of one named run, by its supervisor.

use serde_json::Value;

use crate::harness::named_run::{NamedRun, RunSetup};
use crate::harness::{Exited, User, script, spawn_process};

/// Three workers of the program of `traffic.py`.
fn start() -> NamedRun {
    start_as(User::Current)
}

fn start_as(user: User) -> NamedRun {
    let file = script("traffic.py");
    let command = ["python3", file.to_str().unwrap(), "alone", "{port}", "127.0.0.1"];
    let run = RunSetup::new(user).run(&["-n", "3"], &command);
    run.wait_for_ready(3);
    run
}

/// `sameport VERB PORT WORDS`.
fn verb(run: &NamedRun, verb: &str, words: &str) -> Exited {
    let port = run.setup.port.to_string();
    let words: Vec<&str> = [verb, &port].into_iter().chain(words.split_whitespace()).collect();
    spawn_process(run.setup.command(&words)).wait()
}

#[track_caller]
fn ok(run: &NamedRun, name: &str, words: &str) -> Exited {
    let exited = verb(run, name, words);
    assert_eq!(exited.code, 0, "{words}: {exited:?}");
    exited
}

/// The members of the port: state, wanted share.
#[track_caller]
fn shown(run: &NamedRun) -> (Value, Vec<(String, Option<f64>)>) {
    let text = ok(run, "steer", "--json").stdout;
    let mut all: Value = serde_json::from_str(&text).unwrap();
    let port = all["ports"][0].take();
    let row = |it: &Value| (it["state"].as_str().unwrap().to_owned(), it["share_wanted"].as_f64());
    let rows = port["members"].as_array().unwrap().iter().map(row).collect();
    (port, rows)
}

/// The connections of each worker.
fn served(run: &NamedRun, times: u32) -> usize {
    let file = script("traffic.py");
    let (port, times) = (run.setup.port.to_string(), times.to_string());
    let words = [file.to_str().unwrap(), "count", &port, &times, "127.0.0.1"];
    let exited = crate::harness::start_command(User::Current, "python3", &words).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    exited.stdout.lines().filter(|line| line.contains(' ')).count()
}

#[track_caller]
fn assert_refused(exited: &Exited, code: i32, error: &str, hint: &str) {
    assert_eq!(exited.code, code, "{exited:?}");
    assert!(exited.stderr.starts_with("error: ") && exited.stderr.contains(error), "{exited:?}");
    assert!(exited.stderr.contains(&format!("hint: {hint}")), "{exited:?}");
}

#[test]
fn weights_and_drains_hold_for_the_workers_of_a_run() {
    let run = start();
    let (name, port) = (run.setup.name.clone(), run.setup.port);
    let worker = |number| format!("{name}.{number}");
    let values = format!("{}=1 {}=0 {}=3", worker(1), worker(2), worker(3));
    let done = ok(&run, "steer", &format!("weights {values}"));
    assert!(done.stderr.starts_with(&format!("{port}/tcp: weights {values}, by ")), "{done:?}");
    let (shape, rows) = shown(&run);
    let wanted: Vec<_> = rows.iter().map(|(_, share)| *share).collect();
    assert_eq!(wanted, [Some(0.25), Some(0.0), Some(0.75)], "{shape}");
    assert_eq!((&shape["not_in_force"], served(&run, 60)), (&Value::Null, 2), "{shape}");

    // Values without a policy change those that hold.
    ok(&run, "steer", &format!("{}=4 --json", worker(2)));
    let (shape, rows) = shown(&run);
    assert_eq!(rows[1].1, Some(0.5), "{shape}");

    let drained = ok(&run, "drain", &worker(1));
    let line =
        format!("{} (pid {}) gets no new connections", worker(1), shape["members"][0]["pid"]);
    assert!(drained.stderr.starts_with(&line), "{drained:?}");
    ok(&run, "drain", &format!("{} --wait --timeout 20s", worker(2)));
    let (shape, rows) = shown(&run);
    let states: Vec<_> = rows.iter().map(|(state, _)| &**state).collect();
    assert_eq!((states, served(&run, 20)), (vec!["draining", "draining", "serving"], 1), "{shape}");
    let error = format!("{} is the last member of {port}/tcp that gets new", worker(3));
    assert_refused(&verb(&run, "drain", &worker(3)), 1, &error, "start another member first");
    for number in [1, 2] {
        let undone = ok(&run, "drain", &format!("{} --undo", worker(number)));
        assert!(undone.stderr.contains("gets new connections again"), "{undone:?}");
    }
    for word in ["off", "hash"] {
        ok(&run, "steer", "random");
        let done = ok(&run, "steer", word);
        assert!(done.stderr.starts_with(&format!("{port}/tcp: hash: the kernel")), "{done:?}");
        let (shape, _) = shown(&run);
        let holds = (&shape["rules"]["policy"], &shape["tier"], served(&run, 90));
        assert_eq!(holds, (&"hash".into(), &Value::Null, 3), "{word}: {shape}");
    }
    run.stop();
}

#[test]
fn what_makes_no_sense_is_refused_with_the_members_that_exist() {
    let run = start();
    let (name, port) = (run.setup.name.clone(), run.setup.port);
    let known = format!("the members of {port}/tcp are {name}, {name}.1, {name}.2, {name}.3");
    let refused = |words: &str, code, error: &str, hint: &str| {
        assert_refused(&verb(&run, "steer", words), code, error, hint);
    };
    let own = std::process::id();
    let no_socket = format!("pid {own} has no socket that takes connections on {port}/tcp");
    refused(&format!("weights {own}=1"), 1, &no_socket, &known);
    refused("weights 2147483647=1", 1, "there is no process 2147483647", &known);
    assert_refused(&verb(&run, "drain", "2147483647"), 1, "there is no process", &known);
    refused(
        &format!("weights {name}.4=1"),
        1,
        &format!("no member is \"{name}.4\""),
        "the members",
    );
    refused(
        &format!("weights {name}=0"),
        1,
        "no member would get a connection: every weight is 0",
        "give at least one member a weight above 0",
    );
    refused("weights", 2, "weights needs the value of a member", "for example: weights web=9");
    let too_large = format!("weights {name}.1=4294967296");
    refused(&too_large, 2, "a value is a number from 0 to 4294967295", "usage: ");
    refused(&format!("weights {name}.1=-1"), 2, "is not a number from 0 to", "usage: ");
    refused(&format!("standby {name}.1=256"), 2, "a rank is a number from 0 to 255", "`sameport");
    refused("leest-connections", 2, "the nearest is least-connections", "usage: ");
    refused(&format!("on {name}=1"), 2, "`on` and `off` take no values", "name a policy");
    let elsewhere = spawn_process(run.setup.command(&["steer", "1/udp", "random"])).wait();
    assert_refused(&elsewhere, 1, "no socket takes connections on 1/udp", "`sameport ls`");
    run.stop();
}

#[test]
fn a_policy_that_needs_a_privilege_is_refused_and_changes_nothing() {
    let user = User::all().last().copied().unwrap_or(User::Current);
    if user == User::Current && crate::harness::is_root() {
        return crate::harness::skip("steer-privilege", "no user without privileges");
    }
    let run = start_as(user);
    ok(&run, "steer", "random");
    for policy in ["round-robin", "least-connections", "two-choices"] {
        let error = format!("classic BPF cannot do {policy}");
        let hint = format!("{policy} needs eBPF");
        assert_refused(&verb(&run, "steer", policy), 3, &error, &hint);
    }
    let (shape, _) = shown(&run);
    assert_eq!(
        (&shape["rules"]["policy"], &shape["not_in_force"]),
        (&"random".into(), &Value::Null)
    );
    // What could: the default of this tier.
    let done = ok(&run, "steer", "on");
    assert!(done.stderr.contains("random, by classic BPF, in force"), "{done:?}");
    run.stop();
}
