//! A supervisor whose programs are not loaded yet: another process has the lock of the states.

use serde_json::Value;

use crate::fixture::{PINS, PORT, TrafficFixture};
use crate::harness::{Process, eventually};
use crate::mixed::Runs;

/// A process that keeps the lock.
fn keep_lock(fixture: &TrafficFixture) -> Process {
    fixture.shell(&format!("mkdir -p {PINS} && chmod 700 /sys/fs/bpf/sameport {PINS}"));
    let keeper = fixture.start("flock", &[PINS, "sh", "-c", "echo kept; exec sleep 1000"]);
    keeper.wait_for_stdout("kept");
    keeper
}

/// The phases of the workers.
#[track_caller]
fn phases(runs: &Runs<'_>) -> Vec<String> {
    let text = runs.ok("status slow --json").stdout;
    let status: Value = serde_json::from_str(&text).unwrap();
    let workers = status["runs"][0]["workers"].as_array().unwrap();
    workers.iter().map(|it| it["state"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn requests_and_binds_are_answered_while_a_policy_is_made() {
    let Some(fixture) = TrafficFixture::new("steer-busy") else { return };
    let runs = Runs::new(&fixture);
    let _run = runs.run("slow", "2");
    runs.wait_for_members(2);
    let keeper = keep_lock(&fixture);
    let mut steer = runs.start(&["steer", PORT, "least-connections"]);
    // Not before the request is with the supervisor.
    let waits = || phases(&runs).iter().all(|phase| phase == "ready").then_some(());
    assert!(eventually(waits).is_some());
    assert!(steer.is_running(), "{}", steer.stderr());
    // A new worker binds and listens.
    runs.ok("scale slow 3");
    assert_eq!(phases(&runs), ["ready"; 3]);
    drop(keeper);
    let exited = steer.wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    let port = runs.members();
    assert_eq!((&port["tier"], &port["not_in_force"]), (&"ebpf".into(), &Value::Null), "{port}");
    assert_eq!(port["members"].as_array().map(Vec::len), Some(3), "{port}");
}

#[test]
fn requests_are_answered_while_the_first_worker_waits_for_its_policy() {
    let Some(fixture) = TrafficFixture::new("steer-busy-start") else { return };
    let runs = Runs::new(&fixture);
    let keeper = keep_lock(&fixture);
    let run = runs.run_with("slow", "1", &["--policy", "least-connections"]);
    let is_up = || (runs.start(&["status", "slow"]).wait().code == 0).then_some(());
    assert!(eventually(is_up).is_some(), "{}", run.stderr());
    for _ in 0..5 {
        assert_eq!(phases(&runs).len(), 1);
    }
    drop(keeper);
    let is_ready = || (phases(&runs) == ["ready"]).then_some(());
    assert!(eventually(is_ready).is_some(), "{}", run.stderr());
    let port = runs.members();
    assert_eq!((&port["tier"], &port["not_in_force"]), (&"ebpf".into(), &Value::Null), "{port}");
    runs.ok("stop slow");
    // Nothing stays of what was loaded.
    assert_eq!(fixture.shell(&format!("ls {PINS} 2>&1 || true")).lines().count(), 1);
}
