//! Held sockets: which of them answers a worker's bind.
//!
//! A held socket outlives the workers that use it. A new worker's bind is answered with a held
//! socket that nobody uses, so that what queued there meanwhile is served; if there is none, the
//! worker's own socket is bound, and held from then on.

use std::collections::{BTreeMap, BTreeSet};

use super::instance::InstanceId;
use crate::model::Address;

/// How many sockets an address has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueMode {
    /// Each worker has one of its own, with its own queue.
    PerWorker,
    /// All workers accept from one.
    Shared,
}

/// What a bind is answered with, beside a socket that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// Nothing: the worker's own socket becomes a member.
    OwnSocket,
    /// The socket of the worker that it is to replace: where members cannot be told apart (datagrams,
    /// members that are not ours), one that is not ready must not draw traffic to a queue of its own.
    SocketOf(InstanceId),
}

/// A socket that we hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HeldSocket {
    address: Address,
    users: BTreeSet<InstanceId>,
}

/// All held sockets, by inode.
#[derive(Debug, Clone, Default)]
pub struct HeldSockets(BTreeMap<u64, HeldSocket>);

impl HeldSockets {
    /// Which held socket is to answer `start`'s bind of this address: the one a worker before it left
    /// behind, the oldest first. With [`Queue::Shared`] any that `start` does not use itself.
    ///
    /// A program that binds one address twice (nginx with `reuseport`) gets two.
    #[must_use]
    pub fn claim(
        &self,
        address: &Address,
        start: InstanceId,
        queue: QueueMode,
        instead: Fallback,
    ) -> Option<u64> {
        let there = || self.0.iter().filter(|(_, slot)| slot.address == *address);
        let other = |slot: &HeldSocket| !slot.users.contains(&start);
        there()
            .find(|(_, slot)| slot.users.is_empty())
            .or_else(|| match (queue, instead) {
                (QueueMode::Shared, _) => there().find(|(_, slot)| other(slot)),
                (QueueMode::PerWorker, Fallback::SocketOf(before)) => {
                    there().find(|(_, slot)| other(slot) && slot.users.contains(&before))
                }
                (QueueMode::PerWorker, Fallback::OwnSocket) => None,
            })
            .map(|(inode, _)| *inode)
    }

    /// From now on this start uses the socket, which is held from now on if it was not.
    pub fn add_user(&mut self, inode: u64, address: &Address, start: InstanceId) {
        let slot = || HeldSocket { address: address.clone(), users: BTreeSet::new() };
        self.0.entry(inode).or_insert_with(slot).users.insert(start);
    }

    /// Holds a socket, whoever uses it.
    pub fn hold(&mut self, inode: u64, address: &Address, users: &[InstanceId]) {
        let users = users.iter().copied().collect();
        self.0.insert(inode, HeldSocket { address: address.clone(), users });
    }

    /// Where a held socket is bound.
    #[must_use]
    pub fn address(&self, inode: u64) -> Option<&Address> {
        self.0.get(&inode).map(|slot| &slot.address)
    }

    /// Who uses a held socket.
    #[must_use]
    pub fn users(&self, inode: u64) -> Vec<InstanceId> {
        self.0.get(&inode).map(|slot| slot.users.iter().copied().collect()).unwrap_or_default()
    }

    /// This start has closed the socket.
    pub fn remove_user(&mut self, inode: u64, start: InstanceId) {
        if let Some(slot) = self.0.get_mut(&inode) {
            slot.users.remove(&start);
        }
    }

    /// This start has ended. Gives the sockets that nobody uses since.
    pub fn remove_instance(&mut self, start: InstanceId) -> Vec<u64> {
        let mut free = Vec::new();
        for (inode, slot) in &mut self.0 {
            if slot.users.remove(&start) && slot.users.is_empty() {
                free.push(*inode);
            }
        }
        free
    }

    /// The socket is not held any more.
    pub fn release(&mut self, inode: u64) {
        self.0.remove(&inode);
    }

    /// Whether the socket is held.
    #[must_use]
    pub fn holds(&self, inode: u64) -> bool {
        self.0.contains_key(&inode)
    }

    /// Whether a start other than this one uses the socket.
    #[must_use]
    pub fn is_used_by_another(&self, inode: u64, start: InstanceId) -> bool {
        self.0.get(&inode).is_some_and(|slot| slot.users.iter().any(|user| *user != start))
    }

    /// Sockets that nobody uses, with their addresses.
    pub fn unused(&self) -> impl Iterator<Item = (u64, Address)> {
        let free = self.0.iter().filter(|(_, slot)| slot.users.is_empty());
        free.map(|(inode, slot)| (*inode, slot.address.clone()))
    }

    /// Sockets that this start uses, with their addresses.
    pub fn used_by(&self, start: InstanceId) -> impl Iterator<Item = (u64, &Address)> {
        let used = move |slot: &&HeldSocket| slot.users.contains(&start);
        self.0
            .iter()
            .filter(move |(_, slot)| used(slot))
            .map(|(inode, slot)| (*inode, &slot.address))
    }

    /// Sockets on this address, and whether a live worker uses each.
    #[must_use]
    pub fn on_address(
        &self,
        address: &Address,
        live: &BTreeSet<InstanceId>,
    ) -> BTreeMap<u64, bool> {
        self.0
            .iter()
            .filter(|(_, slot)| slot.address == *address)
            .map(|(inode, slot)| (*inode, !slot.users.is_disjoint(live)))
            .collect()
    }

    /// Every address with a held socket.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<&Address> {
        self.0.values().map(|slot| &slot.address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    fn address(port: u16) -> Address {
        Address::new(Protocol::Tcp, ([0, 0, 0, 0], port).into())
    }

    #[test]
    fn a_replacement_gets_what_was_left_behind() {
        let mut slots = HeldSockets::default();
        let (web, admin) = (address(80), address(81));
        assert_eq!(slots.claim(&web, 1, QueueMode::PerWorker, Fallback::OwnSocket), None);
        slots.add_user(10, &web, 1);
        slots.add_user(11, &admin, 1);
        slots.add_user(12, &web, 2);
        assert_eq!(slots.claim(&web, 3, QueueMode::PerWorker, Fallback::OwnSocket), None);
        assert_eq!(slots.remove_instance(1), [10, 11]);
        assert_eq!(slots.claim(&web, 3, QueueMode::PerWorker, Fallback::OwnSocket), Some(10));
        slots.add_user(10, &web, 3);
        assert_eq!(slots.claim(&web, 3, QueueMode::PerWorker, Fallback::OwnSocket), None);
        assert_eq!(slots.unused().collect::<Vec<_>>(), [(11, admin)]);
        assert_eq!(slots.on_address(&web, &[3].into()), [(10, true), (12, false)].into());
    }

    #[test]
    fn an_address_bound_twice_has_two_sockets() {
        let mut slots = HeldSockets::default();
        let web = address(80);
        slots.add_user(10, &web, 1);
        slots.add_user(11, &web, 1);
        slots.remove_instance(1);
        assert_eq!(slots.claim(&web, 2, QueueMode::PerWorker, Fallback::OwnSocket), Some(10));
        slots.add_user(10, &web, 2);
        assert_eq!(slots.claim(&web, 2, QueueMode::PerWorker, Fallback::OwnSocket), Some(11));
    }

    #[test]
    fn one_for_both_where_members_cannot_be_told_apart() {
        let mut slots = HeldSockets::default();
        let web = address(80);
        slots.add_user(10, &web, 1);
        slots.add_user(11, &web, 2);
        assert_eq!(slots.claim(&web, 3, QueueMode::PerWorker, Fallback::SocketOf(2)), Some(11));
        slots.add_user(11, &web, 3);
        assert_eq!(slots.claim(&web, 3, QueueMode::PerWorker, Fallback::SocketOf(2)), None);
        assert!(slots.remove_instance(2).is_empty());
        slots.remove_user(11, 3);
        assert_eq!(slots.unused().collect::<Vec<_>>(), [(11, web)]);
    }

    #[test]
    fn what_was_adopted_is_for_whoever_comes() {
        let mut slots = HeldSockets::default();
        let web = address(80);
        slots.hold(10, &web, &[]);
        assert_eq!(slots.unused().map(|(inode, _)| inode).collect::<Vec<_>>(), [10]);
        assert_eq!(slots.claim(&web, 1, QueueMode::PerWorker, Fallback::OwnSocket), Some(10));
        slots.add_user(10, &web, 1);
        slots.hold(10, &web, &[1]);
        assert_eq!(slots.claim(&web, 2, QueueMode::PerWorker, Fallback::OwnSocket), None);
    }

    #[test]
    fn a_shared_queue_is_one_socket() {
        let mut slots = HeldSockets::default();
        let web = address(80);
        slots.add_user(10, &web, 1);
        assert_eq!(slots.claim(&web, 2, QueueMode::Shared, Fallback::OwnSocket), Some(10));
        assert_eq!(slots.claim(&web, 1, QueueMode::Shared, Fallback::OwnSocket), None);
        slots.release(10);
        assert!(!slots.holds(10));
    }
}
