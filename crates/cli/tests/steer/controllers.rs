//! Many changes, and changes at the same time.

use crate::fixture::{PORT, TrafficFixture};
use crate::harness;

/// Runs `sameport steer PORT WORDS` this often, one after the other, and prints the exit codes that are not 0.
fn loop_of(times: usize, words: &str) -> String {
    let sameport = harness::sameport();
    format!(
        "i=0; while [ $i -lt {times} ]; do {} steer {PORT} {words} 2>>\"$0\" || echo \"failed $?\"; \
         i=$((i+1)); done",
        sameport.display()
    )
}

#[test]
fn many_changes_leave_one_state() {
    let Some(fixture) = TrafficFixture::new("steer-often") else { return };
    let members = fixture.members(2, &["127.0.0.1"]);
    let [a, b] = members.pids[..] else { panic!("two members") };
    fixture.ok(&format!("steer {PORT} random"));
    let pins = || fixture.shell("find /sys/fs/bpf | sort");
    let pinned = pins();
    let log = harness::in_test_dir("often.log");
    let line = loop_of(6, &format!("weights {a}=1 {b}=$i"));
    let exited = fixture.start("sh", &["-c", &line, log.to_str().unwrap()]).wait();
    assert_eq!(exited.stdout, "", "{}", std::fs::read_to_string(&log).unwrap_or_default());
    assert_eq!(pins(), pinned);
    let rules = &fixture.port()["rules"]["values"];
    assert_eq!(rules[1]["value"], 5, "{rules}");
}

#[test]
fn of_two_controllers_one_wins_and_nothing_is_torn() {
    let Some(fixture) = TrafficFixture::new("steer-two") else { return };
    let members = fixture.members(3, &["127.0.0.1"]);
    let [a, b, c] = members.pids[..] else { panic!("three members") };
    let one = format!("weights {a}=1 {b}=0 {c}=0");
    let other = format!("weights {a}=0 {b}=1 {c}=0");
    let log = harness::in_test_dir("two.log");
    let start =
        |words: &str| fixture.start("sh", &["-c", &loop_of(4, words), log.to_str().unwrap()]);
    let both = [start(&one), start(&other)];
    // Connections in between are of one or the other.
    let served = fixture.connect(100, "127.0.0.1");
    assert!(!served.contains_key(&c) || served[&c] < 60, "{served:?}");
    for process in both {
        let exited = process.wait();
        assert_eq!(exited.stdout, "", "{}", std::fs::read_to_string(&log).unwrap_or_default());
    }
    let served = fixture.connect(20, "127.0.0.1");
    assert_eq!(served.len(), 1, "{served:?}");
    let port = fixture.port();
    let winner = port["members"].as_array().unwrap().iter().find(|it| it["weight"] != 0).unwrap();
    assert_eq!(
        served.get(&i32::try_from(winner["pid"].as_i64().unwrap()).unwrap()),
        Some(&20),
        "{port}"
    );
}

/// Listeners that are seen and gone when they are duplicated.
#[test]
fn members_that_come_and_go_keep_no_policy_in_place() {
    let Some(fixture) = TrafficFixture::new("steer-churn") else { return };
    let churn = fixture.traffic(&["churn", PORT, "8", "127.0.0.1"]);
    churn.wait_for_stdout("ready");
    for _ in 0..3 {
        fixture.ok(&format!("steer {PORT} random"));
        fixture.ok(&format!("steer {PORT} off"));
        let pins = fixture.shell("ls /sys/fs/bpf/sameport/traffic 2>/dev/null || true");
        assert!(!pins.contains("8080"), "{pins}");
    }
    churn.terminate();
    // Nothing of the policy is left where members have come meanwhile.
    let _members = fixture.members(2, &["127.0.0.1"]);
    assert_eq!(fixture.port()["not_in_force"], serde_json::Value::Null);
}
