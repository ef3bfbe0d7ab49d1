//! The eBPF tier of a pool: the state of a port follows the workers that are ready.

use std::collections::{BTreeMap, BTreeSet};

use sameport_policy::model::{Address, Protocol};
use sameport_policy::traffic::{SteeringTier, TrafficMember, TrafficPolicy};

use super::SocketPool;
use super::slots::Slots;
use super::steering::Steering;
use crate::traffic::extended::{PortOrder, SteeredSocket};
use crate::traffic::{PortKey, extended};

impl Steering {
    /// Whether a state of eBPF selects the members of this port, or will.
    pub(super) fn is_extended(&self, port: PortKey) -> bool {
        let traffic = &self.traffic;
        traffic.run.tier_for(port.protocol) == SteeringTier::Extended
            && !traffic.released.contains(&port)
            && (traffic.rules(port).is_some_and(|rules| rules.policy != TrafficPolicy::Hash)
                || extended::exists(port))
    }

    /// Lets the state of a port follow the members.
    pub(super) fn steer_extended(&mut self, slots: &Slots, port: PortKey) {
        let addresses: Vec<Address> = slots
            .held
            .addresses()
            .into_iter()
            .filter(|it| PortKey::of(it) == port)
            .cloned()
            .collect();
        let mut takers: BTreeSet<u64> = BTreeSet::new();
        let mut own = Vec::new();
        let mut is_ready = false;
        for address in &addresses {
            let members = slots.members(address);
            if !self.withdrawn.contains_key(address) {
                is_ready |= !self.ready(slots, address, &members).is_empty();
                takers.extend(self.takers(slots, address, &members));
            }
            own.extend(self.own_sockets(slots, address, &members));
        }
        if own.is_empty() {
            return;
        }
        let is_left = self.traffic.left.contains(&port);
        for own in &mut own {
            own.member.admitted = !is_left && takers.contains(&own.member.socket.inode);
        }
        let probes = self.probes.iter().filter(|(_, (at, _))| PortKey::of(at) == port);
        let rules = self.traffic.rules(port);
        let order = PortOrder {
            port,
            claims: rules.is_some() && !self.traffic.claimed.contains(&port),
            rules,
            replaces: addresses.iter().any(|address| self.programs.contains(address)),
            own,
            is_ready,
            holds_newcomers: true,
            probes: probes.map(|(from, (_, inode))| (*from, *inode)).collect(),
        };
        // Otherwise it waits for rules that a request is about to set.
        let prepared = match order.claims || !extended::exists(port) {
            true => self.traffic.prepared.remove(&port),
            false => None,
        };
        match extended::steer(&order, prepared) {
            Ok(replaced) => {
                if let Some(by) = replaced {
                    self.traffic.was_replaced(port, by);
                }
                self.traffic.claimed.insert(port);
                addresses.iter().for_each(|address| drop(self.failures.remove(address)));
            }
            Err(why) => {
                self.failures.extend(addresses.into_iter().map(|at| (at, why.clone())));
            }
        }
    }

    /// The sockets of an address that listen.
    fn own_sockets<'a>(
        &self,
        slots: &'a Slots,
        address: &Address,
        members: &BTreeMap<u64, bool>,
    ) -> Vec<SteeredSocket<'a>> {
        let listens = |inode: &u64| {
            address.protocol == Protocol::Udp
                || slots.sockets.get(inode).is_some_and(|it| it.is_listening() == Ok(true))
        };
        let inodes: Vec<u64> = members.keys().copied().filter(listens).collect();
        let facts = self.traffic.facts(slots, address, &inodes, |_| false);
        let own = facts.members.into_iter().filter_map(|member| {
            let socket = slots.sockets.get(&member.socket.inode)?;
            Some(SteeredSocket { socket, member })
        });
        own.collect()
    }

    /// The run stops: its members get nothing new if others do. Otherwise the state is removed, and gates
    /// keep new clients waiting.
    pub(super) fn leave_extended(&mut self, slots: &Slots) {
        let ports: BTreeSet<PortKey> =
            slots.held.addresses().into_iter().map(PortKey::of).collect();
        for port in ports {
            if !self.is_extended(port) {
                continue;
            }
            let addresses = slots.held.addresses().into_iter().filter(|it| PortKey::of(it) == port);
            let own = addresses
                .flat_map(|address| self.own_sockets(slots, address, &slots.members(address)));
            let own: Vec<TrafficMember> = own.map(|own| own.member).collect();
            let others = extended::others_of(port, &own);
            if others.iter().any(|other| other.admitted) {
                self.traffic.left.insert(port);
                self.steer_extended(slots, port);
                continue;
            }
            if self.release_extended(slots, port) {
                self.traffic.released.insert(port);
            }
        }
    }

    /// The next program of each group of the port takes the place of the state's. Between a detached program and the
    /// next one the kernel's hash would select members that leave, whose queues nobody reads any more.
    pub(super) fn replaces_extended(&mut self, slots: &Slots, port: PortKey) {
        self.traffic.released.insert(port);
        let of_port = slots.held.addresses().into_iter().filter(|it| PortKey::of(it) == port);
        self.programs.extend(of_port.cloned());
    }

    /// Removes the state of a port, whose programs select no more.
    pub(super) fn forget_extended(&mut self, port: PortKey) -> bool {
        let is_removed = extended::remove(port, &[]).is_ok();
        self.traffic.released.remove(&port);
        is_removed
    }

    /// Removes the state of a port. The kernel's hash selects until the next program.
    pub(super) fn release_extended(&mut self, slots: &Slots, port: PortKey) -> bool {
        let of_port = slots.held.addresses().into_iter().filter(|it| PortKey::of(it) == port);
        let inodes = of_port.flat_map(|address| slots.members(address).into_keys());
        let sockets: Vec<_> = inodes.filter_map(|inode| slots.sockets.get(&inode)).collect();
        // On failure the members of the state stay as they are, and drain.
        extended::remove(port, &sockets).is_ok()
    }
}

impl SocketPool {
    /// The ports whose states this run has followed.
    pub(crate) fn extended_ports(&self) -> BTreeSet<PortKey> {
        self.state().steering.traffic.claimed.clone()
    }
}
