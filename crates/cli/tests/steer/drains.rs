//! `drain`: no new connections, and the wait for those that a member has.

use serde_json::Value;

use crate::fixture::{PORT, TrafficFixture};

#[test]
fn a_drained_member_gets_nothing_and_keeps_what_it_has() {
    let Some(fixture) = TrafficFixture::new("drain") else { return };
    let members = fixture.members(2, &["127.0.0.1"]);
    let [one, other] = members.pids[..] else { panic!("two members") };
    let (client, held) = fixture.hold(20, "127.0.0.1");
    let open = held[&one];
    let done = fixture.ok(&format!("drain {PORT} {one}"));
    let note = format!("note: {PORT}/tcp had no policy: two-choices chooses among the others");
    assert!(done.stderr.contains(&note), "{done:?}");
    let line = format!("pid {one} (python3) gets no new connections, {open} connections are open");
    assert!(done.stderr.contains(&line), "{done:?}");
    assert_eq!(fixture.connect(40, "127.0.0.1"), [(other, 40)].into());
    assert_eq!(fixture.member(one)["state"], "draining");

    // The last one is not drained.
    let error = format!("{other} is the last member of {PORT}/tcp that gets new connections");
    fixture.fails(&format!("drain {PORT} {other}"), 1, &error, "start another member first");

    // With --wait until the last connection has ended.
    let late = fixture.sameport(&format!("drain {PORT} {one} --wait --timeout 300ms"));
    crate::fixture::assert_fails(&late, 1, &format!("{open} connections are open"), "steer");
    let words = ["drain", PORT, &one.to_string(), "--wait", "--json"];
    let waiting = fixture.start(crate::harness::sameport(), &words);
    drop(client);
    let exited = waiting.wait();
    let end: Value = serde_json::from_str(&exited.stdout).unwrap();
    assert_eq!((exited.code, &end["done"]), (0, &true.into()), "{end}");
    assert_eq!((&end["members"][0]["open"], &end["members"][0]["pid"]), (&0.into(), &one.into()));

    // The policy was there for the drain alone.
    fixture.ok(&format!("drain {PORT} {one} --undo"));
    assert_eq!(fixture.port()["rules"]["policy"], "hash");
    let served = fixture.connect(60, "127.0.0.1");
    assert_eq!(served.len(), 2, "{served:?}");
    fixture.fails(&format!("drain {PORT} {one} --undo"), 1, "is not drained", "sameport steer");
}

#[test]
fn a_policy_stays_over_a_drain_and_a_drain_over_a_policy() {
    let Some(fixture) = TrafficFixture::new("drain-policy") else { return };
    let members = fixture.members(3, &["127.0.0.1"]);
    let [a, b, c] = members.pids[..] else { panic!("three members") };
    fixture.ok(&format!("steer {PORT} round-robin"));
    fixture.ok(&format!("drain {PORT} {a}"));
    assert_eq!(fixture.connect(10, "127.0.0.1"), [(b, 5), (c, 5)].into());
    // Another policy gives the drained member nothing either.
    fixture.ok(&format!("steer {PORT} weights {b}=0 {c}=1 {a}=5"));
    assert_eq!(fixture.connect(10, "127.0.0.1"), [(c, 10)].into());
    let error = format!("{c} is the last member of {PORT}/tcp that gets new connections");
    fixture.fails(&format!("drain {PORT} {c}"), 1, &error, "");
    fixture.ok(&format!("drain {PORT} {a} --undo"));
    let served = fixture.connect(60, "127.0.0.1");
    assert!(served[&a] > served[&c] && !served.contains_key(&b), "{served:?}");
    // A drained member that ends is forgotten.
    fixture.ok(&format!("drain {PORT} {a}"));
    crate::harness::kill(a, libc::SIGKILL);
    let gone = crate::harness::eventually(|| {
        let port = fixture.port();
        (port["members"].as_array().unwrap().len() == 2).then_some(())
    });
    assert!(gone.is_some(), "{}", fixture.port());
}

/// Drains these members at the same time, and gives the exit codes.
fn drain_at_once(fixture: &TrafficFixture, members: &[i32]) -> Vec<i32> {
    let start =
        |pid: &i32| fixture.start(crate::harness::sameport(), &["drain", PORT, &pid.to_string()]);
    let started: Vec<_> = members.iter().map(start).collect();
    started.into_iter().map(|process| process.wait().code).collect()
}

#[test]
fn drains_at_the_same_time_all_hold_and_leave_one_member() {
    let Some(fixture) = TrafficFixture::new("drain-at-once") else { return };
    let members = fixture.members(4, &["127.0.0.1"]);
    fixture.ok(&format!("steer {PORT} random"));
    assert_eq!(drain_at_once(&fixture, &members.pids[..3]), [0; 3]);
    for pid in &members.pids[..3] {
        assert_eq!(fixture.member(*pid)["state"], "draining");
    }
    let last = members.pids[3];
    assert_eq!(fixture.connect(20, "127.0.0.1"), [(last, 20)].into());
    // Each of two would leave the other: one of them does.
    fixture.ok(&format!("drain {PORT} {} --undo", members.pids[0]));
    let mut codes = drain_at_once(&fixture, &[members.pids[0], last]);
    codes.sort_unstable();
    assert_eq!(codes, [0, 1]);
    assert_eq!(fixture.connect(20, "127.0.0.1").len(), 1);
}
