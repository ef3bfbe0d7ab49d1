//! Held sockets: which of them answers a worker's bind.
//!
//! A held socket outlives the workers that use it. A new worker's bind is answered with an unused
//! held socket, so that connections queued there are served. Without one, the worker's own socket is
//! bound, and held from then on.

use std::collections::{BTreeMap, BTreeSet};

use super::model::InstanceId;
use crate::model::Address;

/// The accept queues of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueMode {
    /// Each worker has a socket of its own.
    PerWorker,
    /// All workers accept from one socket.
    Shared,
}

/// The answer to a bind if no held socket is unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// The worker's own socket becomes a member.
    OwnSocket,
    /// The socket of this instance, which the worker replaces. Used if steering is impossible (UDP,
    /// or members of other programs), because a worker that is not ready must not receive traffic on
    /// a queue of its own.
    SocketOf(InstanceId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct HeldSocket {
    address: Address,
    users: BTreeSet<InstanceId>,
}

/// All held sockets, by inode.
#[derive(Debug, Clone, Default)]
pub struct HeldSockets(BTreeMap<u64, HeldSocket>);

impl HeldSockets {
    /// The held socket that answers a bind of this address: the oldest unused one. With
    /// [`QueueMode::Shared`], any that the instance does not use yet.
    ///
    /// A program that binds one address twice (nginx with `reuseport`) gets two sockets.
    #[must_use]
    pub fn claim(
        &self,
        address: &Address,
        instance: InstanceId,
        queue: QueueMode,
        fallback: Fallback,
    ) -> Option<u64> {
        let find = |accepts: &dyn Fn(&BTreeSet<InstanceId>) -> bool| {
            let is_match = |held: &HeldSocket| held.address == *address && accepts(&held.users);
            self.0.iter().find(|(_, held)| is_match(held)).map(|(inode, _)| *inode)
        };
        find(&BTreeSet::is_empty).or_else(|| match (queue, fallback) {
            (QueueMode::Shared, _) => find(&|users| !users.contains(&instance)),
            (QueueMode::PerWorker, Fallback::SocketOf(predecessor)) => {
                find(&|users| !users.contains(&instance) && users.contains(&predecessor))
            }
            (QueueMode::PerWorker, Fallback::OwnSocket) => None,
        })
    }

    /// Adds a user of a socket, which is held from now on.
    pub fn add_user(&mut self, inode: u64, address: &Address, instance: InstanceId) {
        let new = || HeldSocket { address: address.clone(), users: BTreeSet::new() };
        self.0.entry(inode).or_insert_with(new).users.insert(instance);
    }

    /// Holds a socket with these users.
    pub fn hold(&mut self, inode: u64, address: &Address, users: &[InstanceId]) {
        let users = users.iter().copied().collect();
        self.0.insert(inode, HeldSocket { address: address.clone(), users });
    }

    /// The address of a held socket.
    #[must_use]
    pub fn address(&self, inode: u64) -> Option<&Address> {
        self.0.get(&inode).map(|held| &held.address)
    }

    /// The users of a held socket.
    #[must_use]
    pub fn users(&self, inode: u64) -> Vec<InstanceId> {
        self.0.get(&inode).map(|held| held.users.iter().copied().collect()).unwrap_or_default()
    }

    /// Removes a user that closed the socket.
    pub fn remove_user(&mut self, inode: u64, instance: InstanceId) {
        if let Some(held) = self.0.get_mut(&inode) {
            held.users.remove(&instance);
        }
    }

    /// Removes an instance that ended. Returns the sockets that became unused.
    pub fn remove_instance(&mut self, instance: InstanceId) -> Vec<u64> {
        let became_unused =
            |held: &mut HeldSocket| held.users.remove(&instance) && held.users.is_empty();
        let unused =
            self.0.iter_mut().filter_map(|(inode, held)| became_unused(held).then_some(*inode));
        unused.collect()
    }

    /// Stops holding the socket.
    pub fn release(&mut self, inode: u64) {
        self.0.remove(&inode);
    }

    /// Whether the socket is held.
    #[must_use]
    pub fn holds(&self, inode: u64) -> bool {
        self.0.contains_key(&inode)
    }

    /// Whether another instance uses the socket.
    #[must_use]
    pub fn is_used_by_another(&self, inode: u64, instance: InstanceId) -> bool {
        self.0.get(&inode).is_some_and(|held| held.users.iter().any(|user| *user != instance))
    }

    /// The unused sockets and their addresses.
    pub fn unused(&self) -> impl Iterator<Item = (u64, Address)> {
        let unused = self.0.iter().filter(|(_, held)| held.users.is_empty());
        unused.map(|(inode, held)| (*inode, held.address.clone()))
    }

    /// The sockets of an instance and their addresses.
    pub fn used_by(&self, instance: InstanceId) -> impl Iterator<Item = (u64, &Address)> {
        let used = self.0.iter().filter(move |(_, held)| held.users.contains(&instance));
        used.map(|(inode, held)| (*inode, &held.address))
    }

    /// The sockets of this address, and whether one of these instances uses each.
    #[must_use]
    pub fn on_address(
        &self,
        address: &Address,
        serving: &BTreeSet<InstanceId>,
    ) -> BTreeMap<u64, bool> {
        self.0
            .iter()
            .filter(|(_, held)| held.address == *address)
            .map(|(inode, held)| (*inode, !held.users.is_disjoint(serving)))
            .collect()
    }

    /// The addresses of all held sockets.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<&Address> {
        self.0.values().map(|held| &held.address).collect()
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
    fn a_replacement_gets_an_unused_socket() {
        let mut sockets = HeldSockets::default();
        let (web, admin) = (address(80), address(81));
        assert_eq!(sockets.claim(&web, 1, QueueMode::PerWorker, Fallback::OwnSocket), None);
        sockets.add_user(10, &web, 1);
        sockets.add_user(11, &admin, 1);
        sockets.add_user(12, &web, 2);
        assert_eq!(sockets.claim(&web, 3, QueueMode::PerWorker, Fallback::OwnSocket), None);
        assert_eq!(sockets.remove_instance(1), [10, 11]);
        assert_eq!(sockets.claim(&web, 3, QueueMode::PerWorker, Fallback::OwnSocket), Some(10));
        sockets.add_user(10, &web, 3);
        assert_eq!(sockets.claim(&web, 3, QueueMode::PerWorker, Fallback::OwnSocket), None);
        assert_eq!(sockets.unused().collect::<Vec<_>>(), [(11, admin)]);
        assert_eq!(sockets.on_address(&web, &[3].into()), [(10, true), (12, false)].into());
    }

    #[test]
    fn an_address_bound_twice_has_two_sockets() {
        let mut sockets = HeldSockets::default();
        let web = address(80);
        sockets.add_user(10, &web, 1);
        sockets.add_user(11, &web, 1);
        sockets.remove_instance(1);
        assert_eq!(sockets.claim(&web, 2, QueueMode::PerWorker, Fallback::OwnSocket), Some(10));
        sockets.add_user(10, &web, 2);
        assert_eq!(sockets.claim(&web, 2, QueueMode::PerWorker, Fallback::OwnSocket), Some(11));
    }

    #[test]
    fn the_fallback_is_the_socket_of_the_predecessor() {
        let mut sockets = HeldSockets::default();
        let web = address(80);
        sockets.add_user(10, &web, 1);
        sockets.add_user(11, &web, 2);
        assert_eq!(sockets.claim(&web, 3, QueueMode::PerWorker, Fallback::SocketOf(2)), Some(11));
        sockets.add_user(11, &web, 3);
        assert_eq!(sockets.claim(&web, 3, QueueMode::PerWorker, Fallback::SocketOf(2)), None);
        assert!(sockets.remove_instance(2).is_empty());
        sockets.remove_user(11, 3);
        assert_eq!(sockets.unused().collect::<Vec<_>>(), [(11, web)]);
    }

    #[test]
    fn an_adopted_socket_is_unused() {
        let mut sockets = HeldSockets::default();
        let web = address(80);
        sockets.hold(10, &web, &[]);
        assert_eq!(sockets.unused().map(|(inode, _)| inode).collect::<Vec<_>>(), [10]);
        assert_eq!(sockets.claim(&web, 1, QueueMode::PerWorker, Fallback::OwnSocket), Some(10));
        sockets.add_user(10, &web, 1);
        sockets.hold(10, &web, &[1]);
        assert_eq!(sockets.claim(&web, 2, QueueMode::PerWorker, Fallback::OwnSocket), None);
    }

    #[test]
    fn a_shared_queue_is_one_socket() {
        let mut sockets = HeldSockets::default();
        let web = address(80);
        sockets.add_user(10, &web, 1);
        assert_eq!(sockets.claim(&web, 2, QueueMode::Shared, Fallback::OwnSocket), Some(10));
        assert_eq!(sockets.claim(&web, 1, QueueMode::Shared, Fallback::OwnSocket), None);
        sockets.release(10);
        assert!(!sockets.holds(10));
    }
}
