//! `audit --watch`: a line of JSON for each change.

use serde_json::Value;

use crate::harness::{Process, eventually, is_root, sameport, skip};
use crate::network::{NOBODY, Network, has_python};

/// Starts `audit --watch`, and waits for its first output.
fn watching(network: &Network, uid: u32) -> Process {
    let watch = network.start(uid, &[sameport().to_str().unwrap(), "audit", "--watch"]);
    watch.wait_for_stdout("\"watching\"");
    watch
}

/// Waits for an event of the process `pid`: as the member, or as the culprit of the finding `id`.
#[track_caller]
fn wait_for_event(watch: &Process, event: &str, id: Option<&str>, pid: i32) -> Value {
    let fits = |report: &Value| {
        let who = if id.is_some() { &report["finding"]["culprit"] } else { &report["member"] };
        let is = id.is_none_or(|id| report["finding"]["id"] == id);
        report["event"] == event && who["pid"] == pid && is
    };
    let found = eventually(|| {
        let printed = watch.stdout();
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).find(fits)
    });
    found.unwrap_or_else(|| panic!("no {event} {id:?} of {pid}:\n{}", watch.stdout()))
}

#[test]
fn members_and_findings_appear_and_disappear() {
    if !has_python() {
        return skip("audit-watch", "no python3");
    }
    let Some(network) = Network::new() else {
        return skip("audit-watch", "no network namespace can be made");
    };
    let own = if is_root() { 0 } else { NOBODY };
    let watch = watching(&network, own);
    let steps = ["tcp", "rp", "bind=0.0.0.0:8443", "listen=8"];
    let api = network.actor(NOBODY, "api", &steps);
    wait_for_event(&watch, "joined", None, api.pid());
    let x = network.actor(NOBODY, "x", &steps);
    let pid = x.pid();
    wait_for_event(&watch, "joined", None, pid);
    let finding = wait_for_event(&watch, "finding", Some("shared-with-stranger"), pid);
    assert_eq!(finding["version"], 1);
    assert!(finding["time"].as_f64().unwrap() > 1_600_000_000.0, "{finding}");
    drop(x);
    wait_for_event(&watch, "left", None, pid);
    wait_for_event(&watch, "gone", Some("shared-with-stranger"), pid);
    // A socket whose list entry stays; only its holders change.
    let steal = format!("steal={}", api.pid());
    let thief = network.actor(NOBODY, "thief", &[&steal]);
    wait_for_event(&watch, "finding", Some("held-by-stranger"), thief.pid());
    assert_eq!(watch.terminate().code, 128 + libc::SIGTERM);
}

#[test]
fn stranger_during_a_restart() {
    if !is_root() || !has_python() {
        return skip("audit-watch-gap", "needs root and python3");
    }
    let Some(network) = Network::new() else {
        return skip("audit-watch-gap", "no network namespace can be made");
    };
    let watch = watching(&network, 0);
    let steps = ["tcp", "ra", "bind=0.0.0.0:8443", "listen=8"];
    let api = network.actor(60_001, "api", &steps);
    wait_for_event(&watch, "joined", None, api.pid());
    let first = api.pid();
    drop(api);
    wait_for_event(&watch, "left", None, first);
    let again = network.actor(60_001, "api", &steps);
    wait_for_event(&watch, "joined", None, again.pid());
    let second = again.pid();
    drop(again);
    wait_for_event(&watch, "left", None, second);
    let x = network.actor(60_002, "x", &steps);
    let finding = wait_for_event(&watch, "finding", Some("taken-in-the-gap"), x.pid());
    assert_eq!(finding["finding"]["severity"], "danger");
    assert_eq!(finding["finding"]["victim"]["pid"], second);
    assert_eq!(watch.stdout().matches("taken-in-the-gap").count(), 1, "{}", watch.stdout());
}

#[test]
fn exits_on_closed_pipe_and_on_signals() {
    let Some(network) = Network::new() else {
        return skip("audit-watch-end", "no network namespace can be made");
    };
    let own = if is_root() { 0 } else { NOBODY };
    let line =
        format!("{{ {} audit --watch; echo ended $? >&2; }} | head -n 1", sameport().display());
    let exited = network.start(own, &["sh", "-c", &line]).wait();
    assert!(exited.stdout.contains("\"watching\""), "{exited:?}");
    assert_eq!(exited.stderr, "ended 0\n");
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let watch = watching(&network, own);
        watch.signal(signal);
        assert_eq!(watch.wait().code, 128 + signal);
    }
}
