//! Tables of looks and their frames.

use std::time::Duration;

use sameport_addr::{Address, Protocol};

use super::*;
use crate::model::Process;
use crate::traffic::model::{SteeringTier, TrafficPolicy, TrafficRules};
use crate::traffic::status::{MemberState, MemberTraffic, TrafficStatus};

mod rows;
mod stalls;
mod weights;

fn address(protocol: Protocol, socket: &str) -> Address {
    Address::new(protocol, socket.parse().unwrap())
}

/// A TCP listener of these processes.
fn tcp(cookie: u64, socket: &str, pids: &[i32]) -> TopListener {
    TopListener {
        address: address(Protocol::Tcp, socket),
        cookie,
        inode: 1000 + cookie,
        queue: 0,
        backlog: 128,
        drops: Some(1),
        steered: Some(false),
        processes: pids.iter().map(|pid| Process::new(*pid, "server")).collect(),
        kept_by: None,
        worker: None,
    }
}

fn udp(cookie: u64, socket: &str, pids: &[i32]) -> TopListener {
    TopListener {
        address: address(Protocol::Udp, socket),
        backlog: 0,
        ..tcp(cookie, "0.0.0.0:1", pids)
    }
}

fn queued(queue: u32, listener: TopListener) -> TopListener {
    TopListener { queue, ..listener }
}

fn of_run(number: u16, phase: TopPhase, listener: TopListener) -> TopListener {
    let pid = listener.processes.last().unwrap().pid;
    let run = "web".to_owned();
    let worker = TopWorker { run, user: None, number, pid, phase, restarts: 3 };
    TopListener { worker: Some(worker), ..listener }
}

fn accepted(cookie: u64, local: &str, owner: i32) -> TopConnection {
    TopConnection { cookie, local: local.parse().unwrap(), accepted: true, owner: Some(owner) }
}

fn waiting(cookie: u64, local: &str) -> TopConnection {
    TopConnection { cookie, local: local.parse().unwrap(), accepted: false, owner: None }
}

fn look(seconds: u64, listeners: &[TopListener], connections: &[TopConnection]) -> TopLook {
    TopLook {
        at: Duration::from_secs(seconds),
        listeners: listeners.to_vec(),
        connections: connections.to_vec(),
        ..TopLook::default()
    }
}

/// The frame of the last look.
fn last_frame(looks: &[TopLook]) -> TopFrame {
    let mut history = TopHistory::default();
    looks.iter().map(|look| history.add(look)).last().unwrap()
}

fn only_group(frame: &TopFrame) -> &TopGroup {
    assert_eq!(frame.groups.len(), 1, "{frame:?}");
    &frame.groups[0]
}

#[test]
fn sockets_of_one_owner_on_two_families_are_one_member() {
    let cases: [(&str, Vec<TopListener>, &[i32]); 6] = [
        ("two processes", vec![tcp(1, "0.0.0.0:80", &[4]), tcp(2, "0.0.0.0:80", &[5])], &[4, 5]),
        ("two families", vec![tcp(1, "0.0.0.0:80", &[4]), tcp(2, "[::]:80", &[4])], &[4]),
        ("two sockets", vec![tcp(1, "0.0.0.0:80", &[4]), tcp(2, "0.0.0.0:80", &[4])], &[4, 4]),
        (
            "two sockets on two families",
            ["0.0.0.0:80", "0.0.0.0:80", "[::]:80", "[::]:80"].map(|at| tcp(1, at, &[4])).into(),
            &[4, 4],
        ),
        ("hidden", vec![tcp(1, "0.0.0.0:80", &[]), tcp(2, "0.0.0.0:80", &[])], &[0, 0]),
        (
            "inherited by every worker of a master",
            vec![tcp(1, "0.0.0.0:80", &[4, 5, 6]), tcp(2, "0.0.0.0:80", &[4, 5, 6])],
            &[4, 4],
        ),
    ];
    for (case, listeners, expected) in cases {
        let frame = last_frame(&[look(0, &listeners, &[])]);
        let pids: Vec<i32> = only_group(&frame).members.iter().map(|it| it.key.pid).collect();
        assert_eq!(pids, expected, "{case}");
    }
}

#[test]
fn a_member_has_the_sums_of_its_sockets() {
    let listeners = [queued(2, tcp(1, "0.0.0.0:80", &[4])), queued(3, tcp(2, "[::]:80", &[4]))];
    let frame = last_frame(&[look(0, &listeners, &[])]);
    let member = &only_group(&frame).members[0];
    assert_eq!((member.queue, member.backlog, member.drops), (5, 256, Some(2)));
    let unknown = [TopListener { drops: None, ..tcp(1, "0.0.0.0:80", &[4]) }];
    let frame = last_frame(&[look(0, &unknown, &[])]);
    assert_eq!(only_group(&frame).members[0].drops, None);
}

#[test]
fn protocols_and_ports_are_groups_in_order() {
    let listeners = [
        udp(1, "0.0.0.0:53", &[4]),
        tcp(2, "0.0.0.0:8080", &[4]),
        tcp(3, "127.0.0.1:80", &[4]),
        tcp(4, "0.0.0.0:80", &[5]),
        tcp(5, "0.0.0.0:53", &[4]),
    ];
    let frame = last_frame(&[look(0, &listeners, &[])]);
    let keys: Vec<_> = frame.groups.iter().map(|it| (it.key.protocol, it.key.port)).collect();
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    assert_eq!(keys, [(tcp, 53), (tcp, 80), (tcp, 8080), (udp, 53)]);
    assert_eq!(frame.groups[1].addresses.len(), 2);
    assert_eq!(frame.groups[3].open, None);
}

/// Each case: listeners, connections as (local address, owner), open connections of the members, of the group.
type CountCase<'a> = (&'a str, Vec<TopListener>, &'a [(&'a str, i32)], &'a [Option<u32>], u32);

#[test]
fn connections_count_for_the_member_that_accepted_them() {
    let cases: [CountCase<'_>; 7] = [
        (
            "by process",
            vec![tcp(1, "0.0.0.0:80", &[4]), tcp(2, "0.0.0.0:80", &[5])],
            &[("10.0.0.1:80", 4), ("127.0.0.1:80", 4), ("127.0.0.1:80", 5)],
            &[Some(2), Some(1)],
            3,
        ),
        (
            "of another process: passed on",
            vec![tcp(1, "0.0.0.0:80", &[4])],
            &[("127.0.0.1:80", 9)],
            &[Some(0)],
            1,
        ),
        (
            "of another port",
            vec![tcp(1, "0.0.0.0:80", &[4])],
            &[("127.0.0.1:81", 4)],
            &[Some(0)],
            0,
        ),
        (
            "both families of one process",
            vec![tcp(1, "0.0.0.0:80", &[4]), tcp(2, "[::]:80", &[4])],
            &[("127.0.0.1:80", 4), ("[::1]:80", 4)],
            &[Some(2)],
            2,
        ),
        (
            "a dual-stack socket has IPv4 connections in IPv6 form",
            vec![tcp(1, "[::]:80", &[4])],
            &[("[::ffff:127.0.0.1]:80", 4)],
            &[Some(1)],
            1,
        ),
        (
            "two sockets of one process",
            vec![tcp(1, "0.0.0.0:80", &[4]), tcp(2, "0.0.0.0:80", &[4])],
            &[("127.0.0.1:80", 4)],
            &[None, None],
            1,
        ),
        (
            "of hidden processes",
            vec![tcp(1, "0.0.0.0:80", &[]), tcp(2, "0.0.0.0:80", &[])],
            &[("127.0.0.1:80", 4)],
            &[None, None],
            1,
        ),
    ];
    for (case, listeners, connections, members, group) in cases {
        let connections: Vec<_> = (0..)
            .zip(connections)
            .map(|(at, (local, owner))| accepted(at, local, *owner))
            .collect();
        let frame = last_frame(&[look(0, &listeners, &connections)]);
        let found = only_group(&frame);
        let open: Vec<_> = found.members.iter().map(|it| it.open).collect();
        assert_eq!((&*open, found.open), (members, Some(group)), "{case}");
    }
}

#[test]
fn the_more_specific_listener_of_a_process_has_the_connection() {
    let listeners = [
        tcp(1, "127.0.0.1:80", &[4]),
        tcp(2, "127.0.0.1:80", &[5]),
        tcp(3, "0.0.0.0:80", &[4]),
        tcp(4, "0.0.0.0:80", &[4]),
    ];
    // On the wildcard address two sockets belong to process 4.
    let frame = last_frame(&[look(0, &listeners, &[accepted(1, "127.0.0.1:80", 5)])]);
    let open: Vec<_> = only_group(&frame).members.iter().map(|it| it.open).collect();
    assert_eq!(open, [None, None, Some(1)]);
}

#[test]
fn rates_are_of_new_connections_between_two_looks() {
    let listeners = [tcp(1, "0.0.0.0:80", &[4]), tcp(2, "0.0.0.0:80", &[5])];
    let at = |cookie, owner| accepted(cookie, "127.0.0.1:80", owner);
    let first = look(10, &listeners, &[at(1, 4), at(2, 5)]);
    let second = look(12, &listeners, &[at(2, 5), at(3, 5), at(4, 4), at(5, 5), at(6, 9)]);

    let frame = last_frame(std::slice::from_ref(&first));
    assert_eq!((frame.since, only_group(&frame).opened), (None, None));
    assert!(only_group(&frame).members.iter().all(|it| it.opened.is_none()));

    let frame = last_frame(&[first, second]);
    let rates: Vec<_> = only_group(&frame).members.iter().map(|it| it.opened).collect();
    assert_eq!(rates, [Some(0.5), Some(1.0)]);
    assert_eq!((frame.since, only_group(&frame).opened), (Some(Duration::from_secs(2)), Some(2.0)));
    assert!(only_group(&frame).members.iter().all(|it| !it.exact));
}

#[test]
fn the_counter_of_choices_is_exact() {
    let listeners = [tcp(1, "0.0.0.0:80", &[4]), tcp(2, "0.0.0.0:80", &[5])];
    let share = |cookie: u64, chosen, state| MemberTraffic {
        pid: None,
        program: None,
        run: None,
        worker: None,
        addresses: vec![],
        inodes: vec![1000 + cookie],
        weight: Some(9),
        rank: Some(2),
        canary: false,
        share_wanted: None,
        share_seen: None,
        chosen,
        open: Some(7),
        queue: None,
        backlog: None,
        drops: None,
        state,
    };
    let traffic = |at, one, two| TopTraffic {
        at: Duration::from_secs(at),
        status: TrafficStatus {
            protocol: Protocol::Tcp,
            port: 80,
            addresses: vec![],
            rules: TrafficRules::new(TrafficPolicy::LeastConnections),
            tier: Some(SteeringTier::Extended),
            in_force: Err("detached".into()),
            members: vec![
                share(1, Some(one), MemberState::Serving),
                share(2, Some(two), MemberState::HeldBack),
            ],
            choices: None,
            remarks: vec![],
        },
    };
    let at = |seconds, one, two| TopLook {
        traffic: vec![traffic(seconds, one, two)],
        passive_opens: Some(1000 + one),
        ..look(seconds, &listeners, &[])
    };
    // A counter that starts anew is no negative rate.
    let frame = last_frame(&[at(0, 10, 50), at(2, 30, 1)]);
    let group = only_group(&frame);
    let members: Vec<_> = group
        .members
        .iter()
        .map(|it| (it.opened, it.exact, it.open, it.weight, it.state))
        .collect();
    assert_eq!(members[0], (Some(10.0), true, Some(0), Some(9), TopState::Serving));
    assert_eq!(members[1], (Some(0.0), true, Some(0), Some(9), TopState::HeldBack));
    assert_eq!((group.opened, frame.passive_rate), (Some(10.0), Some(10.0)));
    assert_eq!(group.policy.as_deref(), Some("least-connections"));
    assert_eq!(group.not_in_force.as_deref(), Some("detached"));

    // With `standby` the value of a member is its rank.
    let mut ranked = at(2, 30, 50);
    ranked.traffic[0].status.rules = TrafficRules::new(TrafficPolicy::Standby);
    let frame = last_frame(&[ranked]);
    assert!(only_group(&frame).members.iter().all(|it| it.weight == Some(2)));

    // The next look has the same answer: the rate stays.
    let again = TopLook { traffic: vec![traffic(2, 30, 50)], ..look(3, &listeners, &[]) };
    let frame = last_frame(&[at(0, 10, 50), at(2, 30, 50), again]);
    let rates: Vec<_> = only_group(&frame).members.iter().map(|it| it.opened).collect();
    assert_eq!(rates, [Some(10.0), Some(0.0)]);
}

#[test]
fn the_policy_without_a_state_is_what_the_kernel_says() {
    let steered = |steered, cookie| TopListener { steered, ..tcp(cookie, "0.0.0.0:80", &[4]) };
    let cases = [
        (vec![steered(Some(true), 1), steered(Some(true), 2)], Some("program")),
        (vec![steered(Some(false), 1), steered(Some(false), 2)], Some("hash")),
        (vec![steered(None, 1), steered(None, 2)], None),
        (vec![steered(Some(false), 1)], None),
    ];
    for (listeners, expected) in cases {
        let frame = last_frame(&[look(0, &listeners, &[])]);
        assert_eq!(only_group(&frame).policy.as_deref(), expected, "{listeners:?}");
    }
}

#[test]
fn workers_have_names_phases_and_restarts() {
    let kept =
        TopListener { kept_by: Some("web".into()), processes: vec![], ..tcp(5, "0.0.0.0:80", &[]) };
    let listeners = [
        tcp(1, "0.0.0.0:80", &[3]),
        of_run(2, TopPhase::Starting, tcp(2, "0.0.0.0:80", &[9])),
        of_run(1, TopPhase::Ready, tcp(3, "0.0.0.0:80", &[7, 8])),
        of_run(3, TopPhase::Draining, queued(1, tcp(4, "0.0.0.0:80", &[6]))),
        kept,
    ];
    let frame = last_frame(&[look(0, &listeners, &[])]);
    let members: Vec<_> = only_group(&frame)
        .members
        .iter()
        .map(|it| (it.name.as_deref(), it.key.pid, it.others, it.restarts, it.state))
        .collect();
    let expected = [
        (Some("web"), 0, 0, None, TopState::Kept),
        (Some("web.1"), 8, 1, Some(3), TopState::Serving),
        (Some("web.2"), 9, 0, Some(3), TopState::HeldBack),
        (Some("web.3"), 6, 0, Some(3), TopState::Draining),
        (None, 3, 0, None, TopState::Serving),
    ];
    assert_eq!(members, expected);
}
