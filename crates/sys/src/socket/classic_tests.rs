//! Plans as classic BPF, in the kernel.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use sameport_policy::model::{Address, Protocol as Sort};
use sameport_policy::traffic::classic::{self, ClassicGroup};
use sameport_policy::traffic::{
    CanaryShare, Processor, SocketId, SteeringTier, TrafficFacts, TrafficMember, TrafficPlan,
    TrafficPolicy, TrafficRules, decide,
};
use socket2::{Domain, Socket, Type};

use super::tests::{accepted, counts, group};
use super::*;
use crate::serial::run_exclusive;
use crate::socket::own_sockets::{duplicate, until};

/// A plan for members with the inodes 0, 1, …, which are also their processes.
fn plan(protocol: Sort, members: u16, rules: &str) -> TrafficPlan {
    let (policy, values) = rules.split_once(' ').unwrap_or((rules, ""));
    let values = values.split_whitespace().map(|value| value.parse().unwrap()).collect();
    let rules = TrafficRules { values, ..TrafficRules::new(policy.parse().unwrap()) };
    let member = |number: u16| {
        let socket = SocketId { inode: number.into(), cookie: None };
        let address = Address::new(protocol, "0.0.0.0:1".parse().unwrap());
        TrafficMember { pid: Some(number.into()), ..TrafficMember::new(socket, address) }
    };
    let mut facts = TrafficFacts::new(protocol, (1..=members).map(member).collect());
    facts.processors = (0..2).map(|number| Processor { number, node: 0 }).collect();
    decide(&facts, &rules, SteeringTier::Classic).unwrap()
}

/// The program for a group with these members in this order.
fn program_of(plan: &TrafficPlan, order: &[u64]) -> Vec<Instruction> {
    classic::program(plan, &ClassicGroup { order, probes: &[], leaving: None }).unwrap()
}

/// The member that gets a connection from this address.
fn reached(listeners: &[&TcpListener], from: IpAddr) -> usize {
    let to = listeners[0].local_addr().unwrap();
    let client = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    let from = match (from, to) {
        // A dual-stack client has a mapped address.
        (IpAddr::V4(ip), SocketAddr::V6(_)) => IpAddr::V6(ip.to_ipv6_mapped()),
        _ => from,
    };
    client.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    let to = SocketAddr::from((from, to.port()));
    client.connect(&to.into()).unwrap();
    let mut member = None;
    until("it is accepted", || {
        member = listeners.iter().position(|listener| accepted(listener).is_some());
        member.is_some()
    });
    member.unwrap()
}

#[test]
fn a_client_keeps_its_member_in_the_kernel() {
    let _alone = run_exclusive();
    for at in ["0.0.0.0", "[::]"] {
        let [a, b, c, d]: [TcpListener; 4] = group(at);
        let plan = plan(Sort::Tcp, 4, "sticky");
        duplicate(&a).steer(&program_of(&plan, &[1, 2, 3, 4])).unwrap();
        let clients: Vec<IpAddr> = (2..34).map(|n| IpAddr::from([127, 0, 0, n])).collect();
        let all = [&a, &b, &c, &d];
        let before: BTreeMap<IpAddr, usize> =
            clients.iter().map(|client| (*client, reached(&all, *client))).collect();
        for (client, member) in &before {
            assert_eq!(reached(&all, *client), *member, "{client} at {at}");
        }
        // The last member takes the index of the second.
        drop(b);
        duplicate(&a).steer(&program_of(&plan, &[1, 4, 3])).unwrap();
        for (client, member) in before {
            let now = [0, 3, 2][reached(&[&a, &d, &c], client)];
            assert!(now == member || member == 1, "{client} at {at}: {member} {now}");
        }
        if at == "[::]" {
            let first = reached(&[&a, &d, &c], "::1".parse().unwrap());
            assert_eq!(reached(&[&a, &d, &c], "::1".parse().unwrap()), first);
        }
    }
}

#[test]
fn weights_ranks_and_the_canary_hold_in_the_kernel() {
    let _alone = run_exclusive();
    let [a, b, c]: [TcpListener; 3] = group("127.0.0.1");
    let canary = |mut plan: TrafficPlan| {
        plan.canary = Some(CanaryShare { per_10000: 9_000 });
        plan.members[1].canary = true;
        plan
    };
    // Of 300 connections. A share of 3 in 4 is 225, and 7 standard deviations are 52.
    for (plan, expected) in [
        (plan(Sort::Tcp, 3, "weights 1=3 3=0"), [173..277, 23..127, 0..1]),
        (plan(Sort::Tcp, 3, "standby 1=2 2=1 3=1"), [0..1, 98..202, 98..202]),
        (canary(plan(Sort::Tcp, 3, "random 3=0")), [1..67, 233..300, 0..1]),
    ] {
        duplicate(&b).steer(&program_of(&plan, &[1, 2, 3])).unwrap();
        let mut counts = [0; 3];
        // A queue has 128 places.
        for _ in 0..3 {
            let some = self::counts(&[&a, &b, &c], 100);
            counts.iter_mut().zip(some).for_each(|(all, some)| *all += some);
        }
        let is_expected = counts.iter().zip(&expected).all(|(count, range)| range.contains(count));
        assert!(is_expected, "{counts:?} instead of {expected:?}");
    }
}

#[test]
fn the_processor_of_the_client_selects_on_loopback() {
    let _alone = run_exclusive();
    let [a, b]: [TcpListener; 2] = group("127.0.0.1");
    duplicate(&a).steer(&program_of(&plan(Sort::Tcp, 2, "cpu"), &[1, 2])).unwrap();
    let usual = rustix::thread::sched_getaffinity(None).unwrap();
    for processor in [0, 1] {
        let mut one = rustix::thread::CpuSet::new();
        one.set(processor);
        if !usual.is_set(processor) || rustix::thread::sched_setaffinity(None, &one).is_err() {
            continue;
        }
        let mut expected = vec![0, 0];
        expected[processor] = 40;
        assert_eq!(counts(&[&a, &b], 40), expected, "processor {processor}");
    }
    rustix::thread::sched_setaffinity(None, &usual).unwrap();
}

#[test]
fn the_datagrams_of_a_flow_reach_one_member() {
    let first = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    first.set_reuse_port(true).unwrap();
    first.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let at = first.local_addr().unwrap();
    let member = || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&at).unwrap();
        socket
    };
    let members: Vec<UdpSocket> = [first, member(), member()].map(UdpSocket::from).into();
    let plan = plan(Sort::Udp, 3, "weights 3=0");
    duplicate(&members[1]).steer(&program_of(&plan, &[1, 2, 3])).unwrap();
    members.iter().for_each(|member| member.set_nonblocking(true).unwrap());
    let clients: Vec<UdpSocket> =
        (0..40).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let mut reached = BTreeMap::new();
    for _ in 0..5 {
        for client in &clients {
            client.send_to(b"x", at.as_socket().unwrap()).unwrap();
            let of = members.iter().position(|member| member.recv(&mut [0; 8]).is_ok()).unwrap();
            let port = client.local_addr().unwrap().port();
            assert_eq!(*reached.entry(port).or_insert(of), of, "a flow moved");
        }
    }
    let used: std::collections::BTreeSet<usize> = reached.into_values().collect();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn the_kernel_takes_the_largest_programs() {
    let [a, _b]: [TcpListener; 2] = group("127.0.0.1");
    let values: Vec<String> = (1..=600).map(|pid| format!("{pid}={pid}")).collect();
    for (members, rules) in [
        (380, "sticky".to_owned()),
        (1_024, "random 1=0 3=0 5=0".to_owned()),
        (600, format!("weights {}", values.join(" "))),
    ] {
        let order: Vec<u64> = (1..=u64::from(members)).collect();
        let program = program_of(&plan(Sort::Tcp, members, &rules), &order);
        let steered = duplicate(&a).steer(&program);
        assert_eq!(steered, Ok(()), "{} instructions", program.len());
    }
}

#[test]
fn every_policy_of_this_tier_has_a_program_in_the_kernel() {
    let [a, b]: [TcpListener; 2] = group("127.0.0.1");
    for policy in TrafficPolicy::ALL {
        let rules = TrafficRules::new(policy);
        let facts = TrafficFacts::new(Sort::Tcp, vec![]);
        if policy == TrafficPolicy::Hash || decide(&facts, &rules, SteeringTier::Classic).is_err() {
            continue;
        }
        let plan = plan(Sort::Tcp, 2, policy.name());
        duplicate(&a).steer(&program_of(&plan, &[1, 2])).unwrap();
        assert_eq!(counts(&[&a, &b], 8).iter().sum::<usize>(), 8);
    }
}
