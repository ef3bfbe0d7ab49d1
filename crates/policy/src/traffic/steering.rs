//! Steering: which members of a group get new connections.
//!
//! Classic BPF for `SO_ATTACH_REUSEPORT_CBPF`: the program returns the index of a member in the
//! kernel's array of the group. It needs no privilege, but knows members only by index, so
//! [`OrderedGroup`] repeats the kernel's changes of the array (`net/core/sock_reuseport.c`):
//! `listen(2)` appends a member, and a member that leaves is replaced by the last one.
//!
//! For an index beyond the array, the kernel selects by its own hash among all members.

use std::collections::BTreeSet;

use super::assembly::{
    AND, IF_EQUAL, JUMP, LOAD_BYTE, LOAD_HALF, LOAD_WORD, NETWORK, RANDOM, RETURN, equally, step,
};
use crate::classic_bpf::Instruction;

/// The most members that a program leaves out. Such a program has 2,051 instructions: below the
/// kernel's limit of 4,096 and, at eight bytes each, below the smallest default of
/// `net.core.optmem_max` (20,480). While 1,024 workers stop, a gate is the only member that is selected.
pub const MAX_EXCLUDED: usize = 1024;

/// A program that selects one of the `live` members at random, with equal probability; `None` if
/// `live` is empty, or more than [`MAX_EXCLUDED`] members are not in it.
///
/// `live` are sorted, unique indices below `count`, the number of members. A member that joins later
/// receives nothing from this program.
#[must_use]
pub fn program(live: &[usize], count: usize) -> Option<Vec<Instruction>> {
    let is_sorted = live.windows(2).all(|pair| pair[0] < pair[1]);
    let is_too_long = count.saturating_sub(live.len()) > MAX_EXCLUDED;
    if is_too_long || !is_sorted || live.last().is_none_or(|last| *last >= count) {
        return None;
    }
    let live: Option<Vec<u32>> = live.iter().map(|index| u32::try_from(*index).ok()).collect();
    let mut program = vec![step(LOAD_WORD, RANDOM)];
    program.extend(equally(&live?));
    Some(program)
}

/// Extends a program: connections from these source ports go to the members with these indices. For
/// the readiness check, which connects to one member: IPv4 without IP options, or IPv6.
#[must_use]
pub fn with_fixed_ports(aims: &[(u16, usize)], otherwise: Vec<Instruction>) -> Vec<Instruction> {
    const IPV6: u32 = 0x60;
    if aims.is_empty() {
        return otherwise;
    }
    // The source port comes first in the TCP header, which comes after the IP header.
    let mut program = vec![
        step(LOAD_BYTE, NETWORK),
        step(AND, 0xF0),
        Instruction { if_false: 2, ..step(IF_EQUAL, IPV6) },
        step(LOAD_HALF, NETWORK + 40),
        step(JUMP, 1),
        step(LOAD_HALF, NETWORK + 20),
    ];
    for (port, index) in aims {
        let Ok(index) = u32::try_from(*index) else { continue };
        let unless = Instruction { if_false: 1, ..step(IF_EQUAL, (*port).into()) };
        program.extend([unless, step(RETURN, index)]);
    }
    program.extend(otherwise);
    program
}

/// The order of the members that are `present`, from an earlier order of the group. `None` if it cannot be
/// known: several have left in an unknown sequence, or others have joined.
#[must_use]
pub fn order_after<Id: Ord + Copy>(earlier: &[Id], present: &BTreeSet<Id>) -> Option<Vec<Id>> {
    if present.len() < 2 {
        return Some(present.iter().copied().collect());
    }
    let mut group = OrderedGroup { members: earlier.to_vec() };
    let mut left = earlier.iter().filter(|id| !present.contains(id));
    if let Some(id) = left.next() {
        group.leave(id);
    }
    let is_complete = group.members.len() == present.len();
    (left.next().is_none() && is_complete).then_some(group.members)
}

/// The members of one group, in the kernel's order.
///
/// The order is correct only if every change is recorded: an unrecorded member shifts later ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderedGroup<Id> {
    members: Vec<Id>,
}

impl<Id> Default for OrderedGroup<Id> {
    fn default() -> Self {
        Self { members: Vec::new() }
    }
}

impl<Id: PartialEq> OrderedGroup<Id> {
    /// Records a successful `listen(2)`: the member is appended. A second `listen` changes nothing.
    pub fn join(&mut self, id: Id) {
        if self.index(&id).is_none() {
            self.members.push(id);
        }
    }

    /// Records the close of the last descriptor, or a `shutdown(2)`: the last member takes the index.
    pub fn leave(&mut self, id: &Id) {
        if let Some(index) = self.index(id) {
            self.members.swap_remove(index);
        }
    }

    /// The index of a member in the kernel's array.
    #[must_use]
    pub fn index(&self, id: &Id) -> Option<usize> {
        self.members.iter().position(|member| member == id)
    }

    /// The members, in the kernel's order.
    #[must_use]
    pub fn members(&self) -> &[Id] {
        &self.members
    }

    /// The program that selects among the members accepted by `is_live`; `None` as for [`program`].
    #[must_use]
    pub fn program(&self, is_live: impl Fn(&Id) -> bool) -> Option<Vec<Instruction>> {
        let live: Vec<_> =
            (0..self.members.len()).filter(|index| is_live(&self.members[*index])).collect();
        program(&live, self.members.len())
    }

    /// The program to attach before a member leaves, until [`Self::leave`] and a new
    /// [`Self::program`].
    ///
    /// When the member leaves, the last member takes its index, and the last index is empty. So the
    /// program selects neither, unless the last member is the only live one: then the kernel selects
    /// for a moment.
    #[must_use]
    pub fn program_while_leaving(
        &self,
        leaving: &Id,
        is_live: impl Fn(&Id) -> bool,
    ) -> Option<Vec<Instruction>> {
        let stays = |id: &Id| id != leaving && is_live(id);
        let last = self.members.last();
        self.index(leaving)
            .and_then(|_| self.program(|id| stays(id) && Some(id) != last))
            .or_else(|| self.program(stays))
    }
}

#[cfg(test)]
mod tests;
