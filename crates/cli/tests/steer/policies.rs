//! Policies of groups that sameport did not start: what holds, and what `steer PORT` shows of it.

use crate::fixture::{PINS, PORT, TrafficFixture};

/// The connections of each of these members.
fn counts(fixture: &TrafficFixture, pids: &[i32], times: u32) -> Vec<u32> {
    let counts = fixture.connect(times, "127.0.0.1");
    pids.iter().map(|pid| counts.get(pid).copied().unwrap_or(0)).collect()
}

#[test]
fn weights_hold_for_programs_that_sameport_did_not_start() {
    let Some(fixture) = TrafficFixture::new("steer-weights") else { return };
    let members = fixture.members(3, &["127.0.0.1"]);
    let [a, b, c] = members.pids[..] else { panic!("three members") };
    let done = fixture.ok(&format!("steer {PORT} weights {a}=3 {b}=1 {c}=0"));
    let headline = format!("{PORT}/tcp: weights {a}=3 {b}=1 {c}=0, by eBPF, in force");
    assert!(done.stderr.starts_with(&headline), "{done:?}");

    let [to_a, to_b, to_c] = counts(&fixture, &members.pids, 200)[..] else { panic!() };
    assert_eq!((to_a + to_b, to_c), (200, 0));
    assert!((115..=185).contains(&to_a), "{to_a} of 200 for the weight 3 of 4");

    let port = fixture.port();
    assert_eq!((&port["tier"], &port["choices"]), (&"ebpf".into(), &200.into()), "{port}");
    assert_eq!(port["not_in_force"], serde_json::Value::Null, "{port}");
    let of = |pid: i32| fixture.member(pid);
    assert_eq!((&of(a)["weight"], &of(c)["weight"]), (&3.into(), &0.into()), "{port}");
    assert_eq!((&of(a)["share_wanted"], &of(a)["chosen"]), (&0.75.into(), &to_a.into()), "{port}");

    let why = fixture.sameport(&format!("why {PORT}")).stdout;
    let line = format!("connections are selected by sameport: weights {a}=3 {b}=1 {c}=0 (eBPF)\n");
    assert!(why.ends_with(&line), "{why}");

    // Values without a policy change those that hold.
    fixture.ok(&format!("steer {PORT} {a}=0 {c}=1"));
    let [to_a, to_b, to_c] = counts(&fixture, &members.pids, 60)[..] else { panic!() };
    assert_eq!((to_a, to_b + to_c), (0, 60));
    assert!(to_c > 0);
    // The choices by the values of before are not counted.
    assert_eq!(fixture.port()["choices"], 60);
    assert_eq!(fixture.member(a)["chosen"], 0);

    fixture.ok(&format!("steer {PORT} off"));
    assert_eq!(fixture.port()["rules"]["policy"], "hash");
    assert_eq!(fixture.shell(&format!("ls {PINS} 2>/dev/null || true")).trim(), "");
    let served = counts(&fixture, &members.pids, 60);
    assert!(served.iter().all(|count| *count > 0), "{served:?}");
}

#[test]
fn connections_decide_and_joining_and_ended_members_follow() {
    let Some(fixture) = TrafficFixture::new("steer-least-connections") else { return };
    let members = fixture.members(4, &["127.0.0.1", "::1"]);
    fixture.ok(&format!("steer {PORT} least-connections"));
    let (client, held) = fixture.hold(40, "127.0.0.1");
    assert_eq!(held.values().copied().collect::<Vec<_>>(), [10; 4], "{held:?}");
    let (client6, held) = fixture.hold(20, "::1");
    assert_eq!(held.values().copied().collect::<Vec<_>>(), [5; 4], "{held:?}");
    let port = fixture.port();
    for row in port["members"].as_array().unwrap() {
        assert_eq!(row["open"], 15, "{port}");
        assert_eq!(row["addresses"].as_array().unwrap().len(), 2, "{port}");
    }
    // A member that joins has none, and so gets the next ones.
    let more = fixture.members(1, &["127.0.0.1", "::1"]);
    let (client2, held) = fixture.hold(10, "127.0.0.1");
    assert_eq!(held.get(&more.pids[0]), Some(&10), "{held:?}");
    assert_eq!(fixture.member(more.pids[0])["open"], 10);
    // An ended one is gone from the list, and gets nothing.
    drop(more);
    drop(client2);
    let gone = crate::harness::eventually(|| {
        let port = fixture.port();
        (port["members"].as_array().unwrap().len() == 4).then_some(())
    });
    assert!(gone.is_some(), "{}", fixture.port());
    drop((client, client6));
    let served = counts(&fixture, &members.pids, 40);
    assert_eq!(served.iter().sum::<u32>(), 40, "{served:?}");
}

#[test]
fn the_default_is_two_choices_and_a_stopped_member_is_named() {
    let Some(fixture) = TrafficFixture::new("steer-hung") else { return };
    let members = fixture.members(3, &["127.0.0.1"]);
    let done = fixture.ok(&format!("steer {PORT} on"));
    assert!(done.stderr.starts_with(&format!("{PORT}/tcp: two-choices, by eBPF")), "{done:?}");
    let stopped = members.pids[0];
    crate::harness::kill(stopped, libc::SIGSTOP);
    // Its queue gets one connection, which nobody accepts.
    let client = fixture.traffic(&["hold", PORT, "30", "127.0.0.1"]);
    let named = crate::harness::eventually(|| {
        fixture.shell(
            "python3 -c \"import socket; [socket.create_connection(('127.0.0.1', 8080)) for _ in \
             range(20)]\"",
        );
        (fixture.member(stopped)["state"] == "hung").then_some(())
    });
    assert!(named.is_some(), "{}", fixture.port());
    let text = fixture.ok(&format!("steer {PORT}")).stdout;
    assert!(text.contains(&format!("pid {stopped} is hung: it accepts no connection")), "{text}");
    crate::harness::kill(stopped, libc::SIGCONT);
    client.wait_for_stdout("ready");
}
