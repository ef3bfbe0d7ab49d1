//! An interpreter executes the programs of many plans.

use std::collections::BTreeMap;

use super::*;
use crate::model::Protocol;
use crate::traffic::execution::{Packet, execute, optmem};
use crate::traffic::facts::SocketId;
use crate::traffic::model::CanaryShare;
use crate::traffic::plan::Newcomers;

/// A member with this inode, which is also its key.
pub(super) fn member(inode: u64, weight: u32) -> PlannedMember {
    PlannedMember {
        sockets: vec![SocketId { inode, cookie: None }],
        pid: None,
        key: inode,
        weight,
        rank: 0,
        canary: false,
        admitted: true,
        place: None,
    }
}

pub(super) fn plan(policy: TrafficPolicy, members: Vec<PlannedMember>) -> TrafficPlan {
    TrafficPlan {
        protocol: Protocol::Tcp,
        policy,
        newcomers: Newcomers::Admit,
        newcomer_weight: 1,
        members,
        canary: None,
        connection_ids: false,
        places: BTreeMap::new(),
    }
}

fn weights(policy: TrafficPolicy, weights: &[u32]) -> TrafficPlan {
    plan(policy, (0..).zip(weights).map(|(inode, weight)| member(inode, *weight)).collect())
}

/// The group has the members of the plan in their order.
fn order(plan: &TrafficPlan) -> Vec<u64> {
    plan.members.iter().map(|member| member.sockets[0].inode).collect()
}

pub(super) fn whole(order: &[u64]) -> ClassicGroup<'_> {
    ClassicGroup { order, probes: &[], leaving: None }
}

fn compile(plan: &TrafficPlan) -> Vec<Instruction> {
    program(plan, &whole(&order(plan))).unwrap()
}

/// Packets of distinct clients, with random numbers that cover their range evenly.
fn packets(count: u32) -> impl Iterator<Item = Packet> {
    let mixed = |n: u32, factor: u32| n.wrapping_mul(factor) ^ n >> 7;
    (0..count).map(move |n| Packet {
        random: [
            u32::try_from(u64::from(n) * (1 << 32) / u64::from(count)).unwrap(),
            mixed(n, 0x9E37_79B1),
        ],
        processor: n % 8,
        is_v6: n % 2 == 1,
        source: [0x2001_0DB8, 0, 0, 0x0A00_0000 + n],
        source_port: u16::try_from(32_768 + n % 28_000).unwrap(),
        payload: &[],
    })
}

/// The share of each index.
fn shares(
    program: &[Instruction],
    members: usize,
    packets: impl Iterator<Item = Packet>,
) -> Vec<f64> {
    let (mut counts, mut all) = (vec![0_u32; members], 0_u32);
    for packet in packets {
        counts[execute(program, &packet).0 as usize] += 1;
        all += 1;
    }
    counts.into_iter().map(|count| f64::from(count) / f64::from(all)).collect()
}

fn assert_near(actual: &[f64], expected: &[f64], tolerance: f64) {
    let is_near = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance && (*b > 0.0 || *a == 0.0);
    assert!(actual.iter().zip(expected).all(is_near), "{actual:.4?} instead of {expected:.4?}");
}

#[test]
fn weights_are_shares() {
    for (weights_of, expected) in [
        (&[9, 1][..], &[0.9, 0.1][..]),
        (&[1, 0, 1], &[0.5, 0.0, 0.5]),
        (&[0, 0, 7], &[0.0, 0.0, 1.0]),
        (&[2, 9, 9], &[0.1, 0.45, 0.45]),
        (&[u32::MAX - 1, 1], &[1.0, 0.0001]),
        (&[1_000_000, 3_000_000, 1], &[0.25, 0.75, 0.0001]),
    ] {
        for policy in [TrafficPolicy::Weights, TrafficPolicy::Random] {
            let program = compile(&weights(policy, weights_of));
            assert_near(&shares(&program, weights_of.len(), packets(20_000)), expected, 0.001);
        }
    }
}

#[test]
fn the_smallest_weight_has_a_result_of_the_draw() {
    let program = compile(&weights(TrafficPolicy::Weights, &[u32::MAX - 1, 1]));
    let last = Packet { random: [u32::MAX; 2], ..Packet::default() };
    assert_eq!(execute(&program, &last).0, 1);
}

#[test]
fn datagrams_of_a_flow_stay_together() {
    let of_udp =
        TrafficPlan { protocol: Protocol::Udp, ..weights(TrafficPolicy::Weights, &[9, 1, 0, 10]) };
    let program = compile(&of_udp);
    for packet in packets(2_000) {
        let later = Packet { random: [1, 2], processor: 77, ..packet };
        assert_eq!(execute(&program, &packet).0, execute(&program, &later).0);
    }
    assert_near(&shares(&program, 4, packets(20_000)), &[0.45, 0.05, 0.0, 0.5], 0.02);
    // Two flows of one client differ.
    let flows =
        (0..1_000).map(|port| Packet { source_port: port, source: [7; 4], ..Packet::default() });
    assert_near(&shares(&program, 4, flows), &[0.45, 0.05, 0.0, 0.5], 0.06);
}

#[test]
fn a_client_keeps_its_member_while_that_one_stays() {
    for n in [2_usize, 8, 64] {
        let full = plan(
            TrafficPolicy::Sticky,
            (0..n as u64).map(|key| member(500 + key * 3, 1)).collect(),
        );
        let program = compile(&full);
        let expected = vec![1.0 / n as f64; n];
        assert_near(&shares(&program, n, packets(20_000)), &expected, 0.012);
        let mut smaller = full.clone();
        let gone = smaller.members.remove(n / 2).key;
        let (before, after) = (order(&full), order(&smaller));
        let program_after = compile(&smaller);
        let mut moved = 0;
        for packet in packets(5_000) {
            let other_port =
                Packet { source_port: packet.source_port ^ 5, random: [3; 2], ..packet };
            assert_eq!(execute(&program, &packet).0, execute(&program, &other_port).0);
            let was = before[execute(&program, &packet).0 as usize];
            let is = after[execute(&program_after, &packet).0 as usize];
            moved += u32::from(was != is);
            assert!(was == is || was == gone, "{was} {is}");
        }
        assert!(f64::from(moved) / 5_000.0 <= 1.0 / n as f64 + 0.01, "{moved} of {n}");
    }
}

#[test]
fn clients_are_divided_by_weight() {
    for (of, expected) in [
        (&[3, 1][..], &[0.75, 0.25][..]),
        (&[1, 0, 1], &[0.5, 0.0, 0.5]),
        (&[4_000_000_000, 1], &[1.0, 0.003]),
    ] {
        let program = compile(&weights(TrafficPolicy::Sticky, of));
        assert_near(&shares(&program, of.len(), packets(20_000)), expected, 0.03);
    }
}

#[test]
fn a_standby_serves_only_without_the_ranks_before_it() {
    let ranked = |members: &[(u8, bool)]| {
        let members = (0..).zip(members).map(|(inode, (rank, admitted))| PlannedMember {
            rank: *rank,
            admitted: *admitted,
            ..member(inode, 1)
        });
        plan(TrafficPolicy::Standby, members.collect())
    };
    for (members, expected) in [
        (&[(0, true), (1, true), (2, true)][..], &[1.0, 0.0, 0.0][..]),
        (&[(0, false), (1, true), (1, true)], &[0.0, 0.5, 0.5]),
        (&[(0, false), (1, false), (2, true)], &[0.0, 0.0, 1.0]),
        (&[(255, true), (255, true)], &[0.5, 0.5]),
    ] {
        let program = compile(&ranked(members));
        assert_near(&shares(&program, members.len(), packets(4_001)), expected, 0.02);
    }
    let plan = ranked(&[(0, false), (1, false)]);
    assert_eq!(program(&plan, &whole(&[0, 1])), Err(NoProgram::NobodyTakes));
}

#[test]
fn a_processor_has_its_members() {
    let mut plan = weights(TrafficPolicy::Cpu, &[1; 5]);
    plan.places = (0..8).map(|number| (number, number)).collect();
    // Processors 0 to 2; two members at processor 2; a member elsewhere.
    for (at, place) in [0, 1, 2, 2, 99].into_iter().enumerate() {
        plan.members[at].place = Some(place);
    }
    let program = compile(&plan);
    let of =
        |processor| shares(&program, 5, packets(9_000).map(move |it| Packet { processor, ..it }));
    assert_near(&of(0), &[1.0, 0.0, 0.0, 0.0, 0.0], 0.0);
    assert_near(&of(2), &[0.0, 0.0, 0.5, 0.5, 0.0], 0.001);
    assert_near(&of(7), &[0.2; 5], 0.001);
    assert_near(&of(1000), &[0.2; 5], 0.001);
    plan.members[0].admitted = false;
    let program = compile(&plan);
    let of_0 = shares(&program, 5, packets(9_000).map(|it| Packet { processor: 0, ..it }));
    assert_near(&of_0, &[0.0, 0.25, 0.25, 0.25, 0.25], 0.001);
    // Nodes: four processors each.
    plan.policy = TrafficPolicy::Numa;
    plan.places = (0..8).map(|number| (number, number / 4)).collect();
    for member in &mut plan.members {
        member.place = member.place.map(|place| place.min(1));
    }
    let program = compile(&plan);
    let of_6 = shares(&program, 5, packets(9_000).map(|it| Packet { processor: 6, ..it }));
    assert_near(&of_6, &[0.0, 0.25, 0.25, 0.25, 0.25], 0.001);
}

#[test]
fn a_canary_gets_its_share_before_the_policy_chooses() {
    let with = |policy: TrafficPolicy, per_10000: u16| {
        let mut plan = weights(policy, &[3, 1, 1, 1]);
        plan.canary = Some(CanaryShare { per_10000 });
        plan.members[2].canary = true;
        plan.members[3].canary = true;
        plan
    };
    let expected = [0.675, 0.225, 0.05, 0.05];
    let program_of = compile(&with(TrafficPolicy::Weights, 1_000));
    assert_near(&shares(&program_of, 4, packets(20_000)), &expected, 0.01);
    let mut none_ready = with(TrafficPolicy::Weights, 5_000);
    none_ready.members[2].admitted = false;
    none_ready.members[3].weight = 0;
    let program_of = compile(&none_ready);
    assert_near(&shares(&program_of, 4, packets(20_000)), &[0.75, 0.25, 0.0, 0.0], 0.001);
    // A client stays with its version, and a greater share moves clients in one direction.
    let [small, large] = [1_000, 3_000].map(|it| compile(&with(TrafficPolicy::Sticky, it)));
    assert_near(&shares(&small, 4, packets(20_000)), &expected, 0.02);
    for packet in packets(5_000) {
        let is_canary = |program: &[Instruction]| execute(program, &packet).0 >= 2;
        assert!(!is_canary(&small) || is_canary(&large));
    }
}

#[test]
fn probes_reach_their_member_under_every_policy() {
    for policy in [TrafficPolicy::Hash, TrafficPolicy::Sticky, TrafficPolicy::Cpu] {
        let mut plan = weights(policy, &[1, 1, 0]);
        plan.places = BTreeMap::from([(0, 0)]);
        plan.members[0].place = Some(0);
        let probes = [(40_000, 2)];
        let group = ClassicGroup { probes: &probes, ..whole(&[0, 1, 2]) };
        let program = program(&plan, &group).unwrap();
        for is_v6 in [false, true] {
            let probe = Packet { source_port: 40_000, is_v6, ..Packet::default() };
            assert_eq!(execute(&program, &probe).0, 2);
            let other = Packet { source_port: 40_001, ..probe };
            assert_ne!(execute(&program, &other).0, 2);
        }
    }
}

#[test]
fn a_connection_id_reaches_its_member_also_while_that_one_gets_nothing_new() {
    let mut plan = weights(TrafficPolicy::Sticky, &[1, 1, 1]);
    plan.protocol = Protocol::Udp;
    plan.connection_ids = true;
    for (at, member) in plan.members.iter_mut().enumerate() {
        member.sockets[0].cookie = Some(0x7_0000_0001 + at as u64);
    }
    let to_1 = Packet { payload: &[0x40, 0, 0, 0, 0, 2, 9, 9, 9, 9, 9], ..Packet::default() };
    plan.members[1].admitted = false;
    let program_of = compile(&plan);
    assert_eq!(execute(&program_of, &to_1).0, 1);
    assert!(packets(200).all(|packet| execute(&program_of, &packet).0 != 1));
    // The member that leaves is named no more.
    let group = ClassicGroup { leaving: Some(1), ..whole(&[0, 1, 2]) };
    assert_ne!(execute(&program(&plan, &group).unwrap(), &to_1).0, 1);
    plan.connection_ids = false;
    assert_ne!(execute(&compile(&plan), &to_1).0, 1);
}

#[test]
fn the_hash_needs_no_program_while_everybody_takes() {
    let mut plan = weights(TrafficPolicy::Hash, &[1, 1]);
    assert_eq!(program(&plan, &whole(&[0, 1])), Err(NoProgram::Hash));
    // A member that the plan does not have gets nothing.
    let with_gate = program(&plan, &whole(&[0, 99, 1])).unwrap();
    assert_near(&shares(&with_gate, 3, packets(4_001)), &[0.5, 0.0, 0.5], 0.02);
    plan.members[0].admitted = false;
    assert_near(&shares(&compile(&plan), 2, packets(100)), &[0.0, 1.0], 0.0);
}

#[test]
fn classic_bpf_has_no_state() {
    for policy in
        [TrafficPolicy::RoundRobin, TrafficPolicy::LeastConnections, TrafficPolicy::TwoChoices]
    {
        let plan = weights(policy, &[1, 1]);
        assert_eq!(program(&plan, &whole(&[0, 1])), Err(NoProgram::Policy));
    }
}

#[test]
fn the_largest_programs_are_within_the_limits_of_the_kernel() {
    // The smallest default of net.core.optmem_max.
    const OPTMEM: usize = 20_480;
    let distinct = |count: u32| weights(TrafficPolicy::Weights, &(1..=count).collect::<Vec<_>>());
    let some = |count: u32| {
        weights(TrafficPolicy::Random, &(0..count).map(|it| it % 2).collect::<Vec<_>>())
    };
    let sticky = |count: usize| weights(TrafficPolicy::Sticky, &vec![1; count]);
    for (plan, name) in [
        (some(1_024), "1,024 members, every other one with a weight"),
        (weights(TrafficPolicy::Random, &[1; 1_024]), "1,024 members"),
        (distinct(600), "600 weights"),
        (sticky(380), "380 members for clients"),
        (weights(TrafficPolicy::Sticky, &[1, 4_000_000_000]), "uneven weights for clients"),
    ] {
        let program = compile(&plan);
        assert!(program.len() <= MAX_INSTRUCTIONS && optmem(&program) <= OPTMEM, "{name}");
    }
    assert!(compile(&distinct(1_024)).len() <= MAX_INSTRUCTIONS);
    // A choice among many members by weight is short.
    let program_of = compile(&distinct(1_024));
    assert!(packets(2_000).all(|packet| execute(&program_of, &packet).1 <= 26));
    let plan = sticky(1_024);
    assert_eq!(program(&plan, &whole(&order(&plan))), Err(NoProgram::TooLong));
}
