//! What holds for the program of any plan.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::tests::{member, plan, whole};
use super::*;
use crate::model::Protocol;
use crate::traffic::execution::{Packet, execute};
use crate::traffic::model::CanaryShare;

/// Any plan that classic BPF can follow, and the order of a group with these members and others.
fn any_plan() -> impl Strategy<Value = (TrafficPlan, Vec<u64>)> {
    use TrafficPolicy as P;
    let policies = [P::Hash, P::Random, P::Weights, P::Sticky, P::Standby, P::Cpu, P::Numa];
    let weight = prop_oneof![Just(0), Just(1), 0..20_u32, any::<u32>().prop_map(|it| it >> 6)];
    let member = (weight, 0..3_u8, any::<bool>(), 0..5_u8, prop::option::of(0..3_u32)).prop_map(
        |(weight, rank, canary, admitted, place)| PlannedMember {
            rank,
            canary,
            admitted: admitted > 0,
            place,
            ..member(0, weight)
        },
    );
    let members = prop::collection::vec(member, 1..40);
    let canary = prop::option::of((1..10_000_u16).prop_map(|per_10000| CanaryShare { per_10000 }));
    (prop::sample::select(policies.to_vec()), members, canary, any::<bool>(), any::<u64>())
        .prop_flat_map(|(policy, mut members, canary, is_udp, first)| {
            let first = first >> 1;
            for (inode, member) in (first..).zip(&mut members) {
                member.sockets[0].inode = inode;
                member.key = inode;
            }
            let mut order: Vec<u64> = (first..).take(members.len() + 2).collect();
            order.sort_by_key(|inode| inode.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut plan = plan(policy, members);
            plan.canary = canary;
            plan.protocol = if is_udp { Protocol::Udp } else { Protocol::Tcp };
            plan.places = (0..4).map(|number| (number, number / 2)).collect();
            (Just(plan), Just(order).prop_shuffle())
        })
}

fn any_packet() -> impl Strategy<Value = Packet> {
    (any::<[u32; 2]>(), 0..6_u32, any::<bool>(), any::<[u32; 4]>(), any::<u16>()).prop_map(
        |(random, processor, is_v6, source, source_port)| Packet {
            random,
            processor,
            is_v6,
            source,
            source_port,
            payload: &[],
        },
    )
}

proptest! {
    #[test]
    fn a_program_selects_only_members_that_may_take(
        (plan, order) in any_plan(),
        packets in prop::collection::vec(any_packet(), 60),
    ) {
        let taking: BTreeSet<u64> = plan.members.iter().filter(|it| it.takes()).map(|it| it.key).collect();
        match program(&plan, &whole(&order)) {
            Ok(program) => {
                for packet in &packets {
                    let (index, _) = execute(&program, packet);
                    prop_assert!(taking.contains(&order[index as usize]));
                }
            }
            Err(none) => prop_assert_eq!((none, taking.len()), (NoProgram::NobodyTakes, 0)),
        }
    }

    #[test]
    fn while_a_member_leaves_every_index_is_right_before_and_after(
        (plan, order) in any_plan(),
        at in any::<prop::sample::Index>(),
        packets in prop::collection::vec(any_packet(), 40),
    ) {
        let leaving = *at.get(&order);
        let taking = |inode: &u64| plan.members.iter().any(|it| it.key == *inode && it.takes());
        let stays = |inode: &u64| *inode != leaving && taking(inode);
        let group = ClassicGroup { leaving: Some(leaving), ..whole(&order) };
        let mut after = order.clone();
        after.swap_remove(order.iter().position(|it| *it == leaving).unwrap());
        let others = order[..order.len() - 1].iter().any(stays);
        match program(&plan, &group) {
            Ok(program) => {
                for packet in &packets {
                    let index = execute(&program, packet).0 as usize;
                    prop_assert!(stays(&order[index]));
                    // Only if nobody else is left, the index of the last member is empty for a moment.
                    prop_assert!(after.get(index).is_some_and(stays) || !others);
                }
            }
            Err(none) => {
                prop_assert_eq!(none, NoProgram::NobodyTakes);
                prop_assert!(!order.iter().any(stays));
            }
        }
    }
}
