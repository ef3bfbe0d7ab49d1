//! The plan as a classic BPF program, for `SO_ATTACH_REUSEPORT_CBPF`.
//!
//! The program belongs to one group: the sockets of one address. It returns the index of a member in
//! the kernel's array of the group, so it is right only while that order holds. A member that joins
//! later has an index that the program never returns.

use super::assembly::{
    self, Draw, IF_EQUAL, IF_NOT_LESS, LOAD_WORD, PROCESSOR, REMAINDER, Use, branch, by_score,
    by_weight, step,
};
use super::connection_ids::with_connection_ids;
use super::facts::SocketId;
use super::model::TrafficPolicy;
use super::plan::{PlannedMember, TrafficPlan};
use super::steering::with_fixed_ports;
use crate::classic_bpf::Instruction;

/// The kernel's limit of a program: `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// The group of one address.
#[derive(Debug, Clone, Copy)]
pub struct ClassicGroup<'a> {
    /// The inodes of its members, in the kernel's order. Members that the plan does not have get
    /// nothing.
    pub order: &'a [u64],
    /// Client ports of readiness checks, with the inode of the member that gets their connections.
    pub probes: &'a [(u16, u64)],
    /// A member that is about to leave: the last member then takes its index. The program selects
    /// neither, unless nobody else is left to select.
    pub leaving: Option<u64>,
}

/// Why there is no program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoProgram {
    /// The kernel's own hash is what the plan says.
    Hash,
    /// No member of the group may get a connection.
    NobodyTakes,
    /// Classic BPF cannot follow the policy.
    Policy,
    /// The program is longer than [`MAX_INSTRUCTIONS`].
    TooLong,
}

/// The program for one group.
///
/// # Errors
///
/// [`NoProgram`]: for [`NoProgram::Hash`] detach the program that is there.
pub fn program(
    plan: &TrafficPlan,
    group: &ClassicGroup<'_>,
) -> Result<Vec<Instruction>, NoProgram> {
    use TrafficPolicy as P;
    let all = candidates(plan, group, true);
    if all.is_empty() {
        return Err(NoProgram::NobodyTakes);
    }
    let is_whole = all.len() == group.order.len() && group.leaving.is_none();
    let is_plain = plan.canary.is_none() && group.probes.is_empty();
    if plan.policy == P::Hash && is_whole && is_plain {
        return Err(NoProgram::Hash);
    }
    let draw = match plan.policy {
        P::Sticky => Draw::Client,
        P::RoundRobin | P::LeastConnections | P::TwoChoices => return Err(NoProgram::Policy),
        _ => Draw::of(plan.protocol),
    };
    let mut block = draw.prepare();
    let (canaries, others): (Vec<_>, Vec<_>) = all.iter().partition(|it| it.1.canary);
    block.extend(match plan.canary {
        Some(share) if !canaries.is_empty() && !others.is_empty() => {
            let mut block = draw.load(Use::Canary);
            block.push(step(REMAINDER, 10_000));
            let (stable, new) = (select(plan, draw, &others), select(plan, draw, &canaries));
            block.extend(branch(IF_NOT_LESS, share.per_10000.into(), stable, new));
            block
        }
        _ => select(plan, draw, &all),
    });
    let block = with_connection_ids(&names(plan, group), block);
    let at = |inode: u64| group.order.iter().position(|it| *it == inode);
    let probes = group.probes.iter().filter_map(|(port, inode)| Some((*port, at(*inode)?)));
    let program = with_fixed_ports(&probes.collect::<Vec<_>>(), block);
    (program.len() <= MAX_INSTRUCTIONS).then_some(program).ok_or(NoProgram::TooLong)
}

/// The names in connection ids, with the index of their member. The one that leaves has none.
fn names(plan: &TrafficPlan, group: &ClassicGroup<'_>) -> Vec<(u32, u32)> {
    if !plan.connection_ids {
        return vec![];
    }
    let sockets = || plan.members.iter().flat_map(|member| &member.sockets);
    let name = |inode: &u64| sockets().find(|it| it.inode == *inode).and_then(SocketId::name);
    let stays = |inode: &&u64| group.leaving != Some(**inode);
    (0..)
        .zip(group.order)
        .filter(|(_, inode)| stays(inode))
        .filter_map(|(at, inode)| Some((name(inode)?, at)))
        .collect()
}

/// A member of the plan with its index in the group.
type Takable<'a> = (u32, &'a PlannedMember);

/// The members that may be selected, by index. Without a member that stays, also those whose index
/// changes.
fn candidates<'a>(
    plan: &'a TrafficPlan,
    group: &ClassicGroup<'_>,
    with_care: bool,
) -> Vec<Takable<'a>> {
    let last = group.order.last();
    let leaves = |inode: &u64| group.leaving == Some(*inode);
    let moves = |inode: &u64| with_care && group.leaving.is_some() && last == Some(inode);
    let member_of = |inode: &u64| {
        plan.members.iter().find(|it| it.sockets.iter().any(|socket| socket.inode == *inode))
    };
    let candidates: Vec<Takable<'_>> = (0..)
        .zip(group.order)
        .filter(|(_, inode)| !leaves(inode) && !moves(inode))
        .filter_map(|(index, inode)| Some((index, member_of(inode)?)))
        .filter(|(_, member)| member.takes())
        .collect();
    match candidates.is_empty() && with_care {
        true => self::candidates(plan, group, false),
        false => candidates,
    }
}

/// The block that selects among these members.
fn select(plan: &TrafficPlan, draw: Draw, members: &[Takable<'_>]) -> Vec<Instruction> {
    match plan.policy {
        TrafficPolicy::Sticky => {
            let mut block = draw.load(Use::Member);
            block.extend(by_score(&entries(plan, members)));
            block
        }
        TrafficPolicy::Standby => {
            let first = members.iter().map(|(_, member)| member.rank).min();
            let serving = members.iter().filter(|(_, member)| Some(member.rank) == first);
            weighted(draw, serving.copied())
        }
        TrafficPolicy::Cpu | TrafficPolicy::Numa => by_place(plan, draw, members),
        _ => weighted(draw, members.iter().copied()),
    }
}

fn weighted<'a>(draw: Draw, members: impl Iterator<Item = Takable<'a>>) -> Vec<Instruction> {
    let members: Vec<(u32, u32)> = members.map(|(index, member)| (index, member.weight)).collect();
    let mut block = draw.load(Use::Member);
    block.extend(by_weight(&members));
    block
}

/// The members at the place of the packet's processor; if there is none, one of all.
fn by_place(plan: &TrafficPlan, draw: Draw, members: &[Takable<'_>]) -> Vec<Instruction> {
    let mut block = weighted(draw, members.iter().copied());
    for (processor, place) in plan.places.iter().rev() {
        let here = members.iter().filter(|(_, member)| member.place == Some(*place));
        let here: Vec<Takable<'_>> = here.copied().collect();
        if !here.is_empty() {
            block = branch(IF_EQUAL, *processor, weighted(draw, here.into_iter()), block);
        }
    }
    let mut program = vec![step(LOAD_WORD, PROCESSOR)];
    program.extend(block);
    program
}

/// Entries of `sticky`: as many for each member as its weight says, with factors that depend on the
/// member only.
fn entries(plan: &TrafficPlan, members: &[Takable<'_>]) -> Vec<(u32, u32)> {
    let all_equal = members.windows(2).all(|pair| pair[0].1.weight == pair[1].1.weight);
    let sum: u64 = members.iter().map(|(_, member)| u64::from(member.weight)).sum();
    // With a canary there are two blocks. Each member has an entry, and the rest is divided.
    let most = assembly::MAX_ENTRIES / if plan.canary.is_some() { 2 } else { 1 };
    let most = most as u64;
    let spare = most.saturating_sub(members.len() as u64);
    let count = |weight: u32| match weight.into() {
        _ if all_equal => 1,
        weight if sum <= most => weight,
        weight => (weight * spare / sum).max(1),
    };
    members
        .iter()
        .flat_map(|(index, member)| {
            (0..count(member.weight)).map(|entry| (*index, factor(member.key, entry)))
        })
        .collect()
}

/// An odd number without a pattern (`SplitMix64`).
fn factor(key: u64, entry: u64) -> u32 {
    let mut mixed = key.wrapping_add(entry.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    u32::try_from((mixed ^ mixed >> 31) >> 32).unwrap_or(1) | 1
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
