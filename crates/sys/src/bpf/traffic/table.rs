//! The tables that a choice reads, from a plan.

use std::collections::{BTreeMap, BTreeSet};

use sameport_policy::traffic::plan::{Newcomers, TrafficPlan};

use super::layout::{self, NO_PLACE, put, table};

/// No weight is greater: a choice divides a load by it, and the quotient needs digits.
const GREATEST: u32 = 1 << 20;

/// What a plan says of a member number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableEntry {
    pub(super) member: u32,
    pub(super) weight: u32,
    pub(super) rank: u32,
    pub(super) place: u32,
    pub(super) identity: u64,
    pub(super) canary: bool,
}

/// The entries of a plan, and the weight of a newcomer, in one unit. `numbers` are those of the sockets, by
/// cookie. Members that the plan does not know are newcomers, unless they are `held_back`.
pub(super) fn entries(
    plan: &TrafficPlan,
    numbers: &BTreeMap<u64, u32>,
    held_back: impl Fn(u32) -> bool,
) -> (Vec<TableEntry>, u32) {
    let mut planned = BTreeSet::<u32>::new();
    let mut entries = Vec::new();
    for member in &plan.members {
        let cookies = member.sockets.iter().filter_map(|socket| socket.cookie);
        let found: BTreeSet<u32> =
            cookies.filter_map(|cookie| numbers.get(&cookie).copied()).collect();
        planned.extend(&found);
        // Sockets that a program has adopted as several members: the first stands for all.
        let Some(number) = found.first().filter(|_| member.takes()) else { continue };
        entries.push(TableEntry {
            member: *number,
            weight: member.weight,
            rank: member.rank.into(),
            place: member.place.unwrap_or(NO_PLACE),
            identity: member.key,
            canary: member.canary,
        });
    }
    if plan.newcomers == Newcomers::Admit && plan.newcomer_weight > 0 {
        let unknown: BTreeMap<u32, u64> = numbers
            .iter()
            .filter(|(_, number)| !planned.contains(number) && !held_back(**number))
            .map(|(cookie, number)| (*number, *cookie))
            .collect();
        entries.extend(unknown.into_iter().map(|(member, identity)| TableEntry {
            member,
            weight: plan.newcomer_weight,
            rank: 0,
            place: NO_PLACE,
            identity,
            canary: false,
        }));
    }
    let weights: Vec<u32> = entries.iter().map(|entry| entry.weight).collect();
    let scaled = scaled(&weights, plan.newcomer_weight);
    for entry in &mut entries {
        entry.weight = scaled(entry.weight);
    }
    (entries, scaled(plan.newcomer_weight))
}

/// What makes these weights as small as they can be, and none greater than [`GREATEST`].
fn scaled(weights: &[u32], newcomer: u32) -> impl Fn(u32) -> u32 + use<> {
    let (mut common, mut greatest) = (newcomer, newcomer);
    for weight in weights {
        common = gcd(common, *weight);
        greatest = greatest.max(*weight);
    }
    let common = common.max(1);
    let over = (greatest / common).div_ceil(GREATEST).max(1);
    move |weight| if weight == 0 { 0 } else { (weight / common / over).max(1) }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `struct table` of these entries.
pub(super) fn bytes(entries: &[TableEntry]) -> Vec<u8> {
    let mut bytes = vec![0; table::SIZE];
    let first = entries.first().map_or(0, |entry| entry.weight);
    let uniform = entries.iter().all(|entry| entry.weight == first);
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    put(&mut bytes, table::COUNT, number(entries.len()));
    put(&mut bytes, table::UNIFORM, if uniform { first } else { 0 });
    let greatest = entries.iter().map(|entry| entry.weight).max();
    put(&mut bytes, table::GREATEST, greatest.unwrap_or(0));
    for (index, of) in entries.iter().enumerate() {
        for (column, value) in [
            (table::WEIGHTS, of.weight),
            (table::INVERSES, layout::inverse(of.weight)),
            (table::RANKS, of.rank),
            (table::PLACES, of.place),
        ] {
            put(&mut bytes, column + 4 * index, value);
        }
        let identity = table::IDENTITIES + 8 * index;
        bytes[identity..identity + 8].copy_from_slice(&layout::mix(of.identity).to_le_bytes());
        let short = |n: usize| u16::try_from(n).unwrap_or(0).to_le_bytes();
        let member = usize::try_from(of.member).unwrap_or(0);
        for (at, value) in
            [(table::INDEXED + 2 * index, member), (table::AT + 2 * member, index + 1)]
        {
            bytes[at..at + 2].copy_from_slice(&short(value));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_ratio_and_become_small() {
        let few = scaled(&[10, 20], 10);
        assert_eq!([10, 20, 0].map(few), [1, 2, 0]);
        let great = scaled(&[u32::MAX, 1], 1);
        assert_eq!(great(1), 1);
        assert!(great(u32::MAX) > GREATEST - GREATEST / 100 && great(u32::MAX) <= GREATEST);
    }

    #[test]
    fn entries_and_their_positions_refer_to_each_other() {
        let entry = |member, weight| TableEntry {
            member,
            weight,
            rank: 1,
            place: 2,
            identity: 3,
            canary: false,
        };
        let table = bytes(&[entry(1023, 5), entry(0, 5)]);
        assert_eq!(table[table::COUNT], 2);
        assert_eq!(table[table::UNIFORM], 5);
        assert_eq!(table[table::AT..table::AT + 2], [2, 0]);
        assert_eq!(table[table::AT + 2 * 1023..][..2], [1, 0]);
        assert_eq!(bytes(&[entry(1, 5), entry(2, 6)])[table::UNIFORM], 0);
    }
}
