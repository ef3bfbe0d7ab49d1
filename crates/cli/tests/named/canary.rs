//! `upgrade --canary`, `--promote` and `--rollback`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::named_run::{NamedRun, RunSetup, connect, read, responder, send_request};
use crate::harness::{User, eventually, find_program, kill, skip, spawn_process};

/// Answers with its release: `PORT RELEASE`.
const SERVER: &str = "
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = sys.argv[2].encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
";

/// A run of `copies` workers of release `one`.
fn start(user: User, options: &[&str], copies: usize) -> Option<NamedRun> {
    let Some(python) = find_program("python3") else {
        skip("canaries", "no python3");
        return None;
    };
    let copies_text = copies.to_string();
    let options: Vec<&str> = ["-n", &copies_text].iter().chain(options).copied().collect();
    let command = [python.to_str().unwrap(), "-c", SERVER, "{port}", "one"];
    let run = RunSetup::new(user).run(&options, &command);
    run.wait_for_ready(copies);
    Some(run)
}

/// The options of an upgrade to this release.
fn release<'a>(options: &[&'a str], port: &'a str, name: &'a str) -> Vec<&'a str> {
    let command = ["--", "python3", "-c", SERVER, port, name];
    options.iter().chain(&command).copied().collect()
}

impl NamedRun {
    /// Upgrades with these options to this release.
    #[track_caller]
    fn upgrade(&self, options: &[&str], name: &str) {
        self.verb("upgrade", &release(options, &self.setup.port.to_string(), name));
    }

    fn canary(&self) -> Value {
        self.status()["canary"].clone()
    }
}

/// The pids of the canary's workers.
fn canaries(run: &NamedRun) -> Vec<i32> {
    let status = run.status();
    let canaries = status["workers"].as_array().unwrap().iter().filter(|it| it["canary"] == true);
    canaries.map(|it| it["pid"].as_i64().unwrap().try_into().unwrap()).collect()
}

/// The releases that answer this number of connections.
fn answers(to: SocketAddr, connections: u32) -> BTreeMap<String, u32> {
    let mut answers = BTreeMap::new();
    for _ in 0..connections {
        let answer = responder(to).unwrap();
        let name = answer.rsplit('\n').next().unwrap_or_default().to_owned();
        *answers.entry(name).or_default() += 1;
    }
    answers
}

#[track_caller]
fn assert_all(to: SocketAddr, name: &str) {
    assert_eq!(answers(to, 30), [(name.to_owned(), 30)].into());
}

#[test]
fn a_canary_gets_its_share_and_is_promoted() {
    for user in User::all() {
        let Some(run) = start(*user, &[], 3) else { return };
        let to = run.setup.address();
        let before = run.wait_for_ready(3);
        run.upgrade(&["--canary", "25%"], "two");
        let canary = run.canary();
        assert_eq!((&canary["state"], &canary["share"]), (&"active".into(), &25.0.into()));
        assert_eq!(canary["workers"], 1);
        assert_eq!(run.status()["copies"], 3);
        assert!(run.status()["command"].to_string().contains("one"));
        // Of 400 connections 100 are expected; 7 standard deviations are 61.
        let two = answers(to, 400).get("two").copied().unwrap_or_default();
        assert!((39..=161).contains(&two), "{two}");
        let with_canary = run.wait_for_ready(4);
        let text = run.verb("status", &[]).stdout;
        assert!(text.contains("1 worker, 25% of new connections, since "), "{text}");
        assert!(text.contains("\n1 canary "), "{text}");
        let check = run.verb("status", &["--check"]).stdout;
        assert!(check.contains("3 of 3 workers ready"), "{check}");

        run.verb("upgrade", &["--promote"]);
        let after = run.wait_for_ready(3);
        let stayed: Vec<_> = after.intersection(&with_canary).collect();
        assert_eq!(stayed.len(), 1, "{with_canary:?} {after:?}");
        assert!(!before.contains(stayed[0]));
        assert_all(to, "two");
        assert!(run.canary().is_null());
        assert!(run.status()["command"].to_string().contains("two"));
        // A worker that crashes has the new command.
        kill(*after.first().unwrap(), libc::SIGKILL);
        run.supervisor.wait_for_stderr("has ended: killed by SIGKILL");
        run.wait_for_ready(3);
        assert_all(to, "two");
        run.stop();
    }
}

#[test]
fn a_rollback_leaves_the_workers_as_they_were() {
    for user in User::all() {
        let Some(run) = start(*user, &[], 1) else { return };
        let before = run.wait_for_ready(1);
        run.upgrade(&["--canary", "99.99%"], "two");
        assert_eq!(run.wait_for_ready(2).len(), 2);
        assert!(answers(run.setup.address(), 100)["two"] > 90);
        run.verb("upgrade", &["--rollback"]);
        assert_eq!(run.wait_for_ready(1), before);
        assert_all(run.setup.address(), "one");
        assert_eq!(run.canary()["state"], "rolled-back");
        let text = run.verb("status", &[]).stdout;
        assert!(text.contains("rolled back"), "{text}");
        run.stop();
    }
}

/// The time promotes; a crash before rolls back, and says why.
#[test]
fn a_canary_ends_by_itself() {
    let Some(run) = start(User::Current, &[], 2) else { return };
    let to = run.setup.address();
    run.upgrade(&["--canary", "50%", "--after", "24h"], "two");
    assert!(run.canary()["promotes_at"].is_u64());
    kill(canaries(&run)[0], libc::SIGABRT);
    run.supervisor.wait_for_stderr("is rolled back: canary 1: killed by SIGABRT");
    run.wait_for_ready(2);
    assert_all(to, "one");
    assert_eq!(run.canary()["why"], "canary 1: killed by SIGABRT");

    run.upgrade(&["--canary", "50%", "--after", "1s"], "three");
    run.supervisor.wait_for_stderr("its time is over without a failure");
    run.wait_for_ready(2);
    assert_all(to, "three");
    run.stop();
}

/// A canary that cannot start changes nothing, whatever is wrong with it.
#[test]
fn a_canary_that_fails_leaves_the_old_workers() {
    let Some(run) = start(User::Current, &["--ready-timeout", "2s", "--grace", "1s"], 2) else {
        return;
    };
    let before = run.wait_for_ready(2);
    for (command, code, text) in [
        (&["sh", "-c", "exit 9"][..], 1, "canary 1: exited with 9"),
        (&["sleep", "1000"], 1, "canary 1: not ready in time"),
        (&["no-such-program"], 127, "command not found"),
        (&["/etc/passwd"], 126, "cannot be executed"),
    ] {
        let words: Vec<&str> = ["--canary", "10%", "--"].iter().chain(command).copied().collect();
        let failed = run.try_verb("upgrade", &words);
        assert_eq!(failed.code, code, "{failed:?}");
        assert!(failed.stderr.contains(text), "{failed:?}");
        assert_eq!(run.wait_for_ready(2), before);
        assert_all(run.setup.address(), "one");
    }
    run.stop();
}

#[test]
fn what_is_no_share_is_refused() {
    let setup = RunSetup::new(User::Current);
    let usage = |words: &[&str]| {
        let words: Vec<&str> = ["upgrade", "web"].iter().chain(words).copied().collect();
        let exited = spawn_process(setup.command(&words)).wait();
        assert_eq!(exited.code, 2, "{words:?} {exited:?}");
        exited.stderr
    };
    for share in ["0%", "100%", "150%", "ten", "", "%", "0.001%", "1e1%", "+5%", "70000%"] {
        let stderr = usage(&["--canary", share, "--", "true"]);
        assert!(stderr.contains("is not a share: from 0.01% to 99.99%"), "{share} {stderr}");
    }
    usage(&["--canary", "10%"]);
    usage(&["--after", "10m", "--", "true"]);
    for time in ["0", "0s", "ten", "25h", "-1"] {
        usage(&["--canary", "10%", "--after", time, "--", "true"]);
    }
    usage(&["--promote", "--rollback"]);
    for end in ["--promote", "--rollback"] {
        usage(&[end, "--", "true"]);
        usage(&[end, "--canary", "10%"]);
        usage(&[end, "--env", "A=b"]);
    }
}

/// Other verbs while a canary is in progress: the table of docs/named.md.
#[test]
fn other_changes_during_a_canary() {
    let Some(run) = start(User::Current, &[], 2) else { return };
    let (to, port) = (run.setup.address(), run.setup.port.to_string());
    for end in ["--promote", "--rollback"] {
        let failed = run.try_verb("upgrade", &[end]);
        assert_eq!(failed.code, 1, "{failed:?}");
        assert!(failed.stderr.contains("the run has no canary"), "{failed:?}");
    }
    run.upgrade(&["--canary", "50%"], "two");
    for options in [&[][..], &["--canary", "10%"]] {
        let failed = run.try_verb("upgrade", &release(options, &port, "three"));
        assert_eq!(failed.code, 1, "{failed:?}");
        assert!(failed.stderr.contains("the run has a canary"), "{failed:?}");
        let advice = format!("`sameport upgrade {} --promote`", run.setup.name);
        assert!(failed.stderr.contains(&advice), "{failed:?}");
    }
    let both = |run: &NamedRun| {
        let answers = answers(to, 60);
        assert_eq!(answers.keys().collect::<Vec<_>>(), ["one", "two"], "{}", run.status());
    };
    let before = run.wait_for_ready(3);
    run.verb("restart", &[]);
    assert!(run.wait_for_ready(3).is_disjoint(&before));
    both(&run);
    run.verb("scale", &["4"]);
    run.wait_for_ready(5);
    both(&run);
    // The supervisor's program is replaced, and the canary goes on.
    run.verb("reexec", &[]);
    run.wait_for_ready(5);
    assert_eq!(run.canary()["share"], 50.0);
    both(&run);
    run.verb("upgrade", &["--promote"]);
    run.wait_for_ready(4);
    assert_all(to, "two");
    run.upgrade(&["--canary", "50%"], "three");
    run.verb("scale", &["1"]);
    run.wait_for_ready(2);
    run.stop();
}

/// A supervisor that takes over ends the canary: its command line has the old command.
#[test]
fn a_takeover_ends_the_canary() {
    let Some(mut run) = start(User::Current, &[], 2) else { return };
    run.upgrade(&["--canary", "50%"], "two");
    run.supervisor.signal(libc::SIGKILL);
    let command = ["python3", "-c", SERVER, "{port}", "one"];
    let next = eventually(|| (!run.supervisor.is_running()).then_some(()));
    assert!(next.is_some());
    let supervisor = spawn_process(run.setup.run_command(&["-n", "2"], &command));
    supervisor.wait_for_stderr("takes over its workers");
    let run = NamedRun { setup: run.setup, supervisor };
    run.wait_for_ready(2);
    assert_all(run.setup.address(), "one");
    assert!(run.canary().is_null());
    run.stop();
}

/// Where connections cannot be divided, the verb says so before anything starts.
#[test]
fn a_run_that_cannot_divide_its_connections_refuses_a_canary() {
    for (options, text) in [
        (&["--queue", "shared"][..], "all workers accept from one queue (--queue shared)"),
        (&["--no-hold"], "the supervisor does not hold the sockets"),
        (&["--via", "preload"], "the supervisor does not hold the sockets"),
    ] {
        let Some(run) = start(User::Current, options, 1) else { return };
        let failed = run.try_verb(
            "upgrade",
            &release(&["--canary", "10%"], &run.setup.port.to_string(), "two"),
        );
        assert_eq!(failed.code, 1, "{failed:?}");
        assert!(failed.stderr.contains(text), "{failed:?}");
        assert!(run.canary().is_null());
        run.stop();
    }
    let run = RunSetup::new(User::Current).run(&[], &["sleep", "1000"]);
    let failed = run.try_verb("upgrade", &["--canary", "10%", "--", "sleep", "1000"]);
    assert!(failed.stderr.contains("the run listens on no address"), "{failed:?}");
    run.stop();
}

/// Connections that wait in the queue of a canary that is killed are answered by the old release.
#[test]
fn the_queue_of_a_failed_canary_is_served() {
    let Some(run) = start(User::Current, &[], 2) else { return };
    run.upgrade(&["--canary", "99.99%", "--after", "1h"], "two");
    let pids = canaries(&run);
    assert_eq!(pids.len(), 2);
    pids.iter().for_each(|pid| kill(*pid, libc::SIGSTOP));
    let waiting: Vec<_> =
        (0..4).map(|_| send_request(connect(run.setup.address()).unwrap())).collect();
    pids.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
    run.supervisor.wait_for_stderr("is rolled back: canary");
    for stream in waiting {
        let answer = read(stream).unwrap();
        assert!(answer.ends_with("one"), "{answer:?}\n{}", run.supervisor.stderr());
    }
    run.wait_for_ready(2);
    run.stop();
}

/// In a group with members of another run, the index of a member is not known without eBPF.
#[test]
fn a_group_of_several_runs_takes_ebpf() {
    let user = User::all().last().copied().unwrap_or(User::Current);
    let options = ["--group", "canaries"];
    let Some(run) = start(user, &options, 1) else { return };
    let mut other = RunSetup::new(user);
    other.port = run.setup.port;
    let other = other.run(&options, &["python3", "-c", SERVER, "{port}", "other"]);
    other.wait_for_ready(1);
    let failed =
        run.try_verb("upgrade", &release(&["--canary", "10%"], &run.setup.port.to_string(), "two"));
    assert_eq!(failed.code, 3, "{failed:?}");
    assert!(failed.stderr.contains("members that are not of this run"), "{failed:?}");
    other.stop();
    run.upgrade(&["--canary", "10%"], "two");
    run.stop();
}

/// `steer` and `status` show the share of the canary, and a policy holds within each release.
#[test]
fn a_canary_and_a_policy_hold_together() {
    let Some(run) = start(User::Current, &["--policy", "random"], 2) else { return };
    run.upgrade(&["--canary", "20%"], "two");
    let traffic = run.status()["traffic"][0].clone();
    assert_eq!(traffic["rules"]["canary"]["per_10000"], 2_000, "{traffic}");
    assert!(traffic["not_in_force"].is_null(), "{traffic}");
    let members = traffic["members"].as_array().unwrap();
    let wanted = |canary: bool| -> f64 {
        let members = members.iter().filter(|it| it["canary"] == canary);
        members.map(|it| it["share_wanted"].as_f64().unwrap()).sum()
    };
    assert!((wanted(true) - 0.2).abs() < 0.001, "{traffic}");
    assert!((wanted(false) - 0.8).abs() < 0.001, "{traffic}");
    let two = answers(run.setup.address(), 200).get("two").copied().unwrap_or_default();
    assert!((1..=100).contains(&two), "{two}");
    run.verb("upgrade", &["--promote"]);
    assert!(run.status()["traffic"][0]["rules"]["canary"].is_null());
    run.stop();
}
