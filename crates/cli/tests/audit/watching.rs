//! What changes, as it does: one line of JSON each.

use serde_json::Value;

use crate::harness::{Process, eventually, is_root, sameport, skip};
use crate::network::{NOBODY, Network, has_python};

/// `audit --watch`, once it does.
fn watching(network: &Network, uid: u32) -> Process {
    let watch = network.start(uid, &[sameport().to_str().unwrap(), "audit", "--watch"]);
    watch.wait_for_stdout("\"watching\"");
    watch
}

/// Waits for an event of this kind that the process of this pid has part in: as the member, or as the
/// culprit of this finding.
#[track_caller]
fn told(watch: &Process, event: &str, id: Option<&str>, pid: i32) -> Value {
    let fits = |told: &Value| {
        let who = if id.is_some() { &told["finding"]["culprit"] } else { &told["member"] };
        let is = id.is_none_or(|id| told["finding"]["id"] == id);
        told["event"] == event && who["pid"] == pid && is
    };
    let found = eventually(|| {
        let said = watch.stdout();
        said.lines().map(|line| serde_json::from_str(line).unwrap()).find(fits)
    });
    found.unwrap_or_else(|| panic!("no {event} {id:?} of {pid}:\n{}", watch.stdout()))
}

#[test]
fn members_and_findings_come_and_go() {
    if !has_python() {
        return skip("audit-watch", "python3 is not installed");
    }
    let Some(network) = Network::new() else {
        return skip("audit-watch", "no network namespace can be made");
    };
    let own = if is_root() { 0 } else { NOBODY };
    let watch = watching(&network, own);
    let steps = ["tcp", "rp", "bind=0.0.0.0:8443", "listen=8"];
    let api = network.actor(NOBODY, "api", &steps);
    told(&watch, "joined", None, api.pid());
    let x = network.actor(NOBODY, "x", &steps);
    let pid = x.pid();
    told(&watch, "joined", None, pid);
    let finding = told(&watch, "finding", Some("shared-with-stranger"), pid);
    assert_eq!(finding["version"], 1);
    assert!(finding["time"].as_f64().unwrap() > 1_600_000_000.0, "{finding}");
    drop(x);
    told(&watch, "left", None, pid);
    told(&watch, "gone", Some("shared-with-stranger"), pid);
    // A socket that changes no list: only its holders do.
    let steal = format!("steal={}", api.pid());
    let thief = network.actor(NOBODY, "thief", &[&steal]);
    told(&watch, "finding", Some("held-by-stranger"), thief.pid());
    assert_eq!(watch.terminate().code, 128 + libc::SIGTERM);
}

#[test]
fn a_stranger_in_the_gap_of_a_restart() {
    if !is_root() || !has_python() {
        return skip("audit-watch-gap", "needs root and python3");
    }
    let Some(network) = Network::new() else {
        return skip("audit-watch-gap", "no network namespace can be made");
    };
    let watch = watching(&network, 0);
    let steps = ["tcp", "ra", "bind=0.0.0.0:8443", "listen=8"];
    let api = network.actor(60_001, "api", &steps);
    told(&watch, "joined", None, api.pid());
    let first = api.pid();
    drop(api);
    told(&watch, "left", None, first);
    let again = network.actor(60_001, "api", &steps);
    told(&watch, "joined", None, again.pid());
    let second = again.pid();
    drop(again);
    told(&watch, "left", None, second);
    let x = network.actor(60_002, "x", &steps);
    let finding = told(&watch, "finding", Some("taken-in-the-gap"), x.pid());
    assert_eq!(finding["finding"]["severity"], "danger");
    assert_eq!(finding["finding"]["victim"]["pid"], second);
    assert_eq!(watch.stdout().matches("taken-in-the-gap").count(), 1, "{}", watch.stdout());
}

#[test]
fn it_ends_with_its_reader_and_by_a_signal() {
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
