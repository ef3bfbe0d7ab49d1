//! Gates: members that accept no connection. While a run stops, its groups steer clients there; their
//! handshakes stay unanswered until the sockets close.
//!
//! A group with members of other runs cannot be steered. There the run's own members drop the first
//! packets of new clients, which are sent again after a second and then reach the others.

use sameport_policy::model::{Address, Protocol};

use super::slots::Slots;
use super::steering::{Selection, Steering};
use crate::traffic::PortKey;

const EXTENDED: &str = "an eBPF program selects its members";

impl Steering {
    /// Adds a gate to a group and steers all new connections to it.
    pub(super) fn close(&mut self, slots: &Slots, address: &Address) -> Result<(), String> {
        if self.gates.contains_key(address) {
            return Ok(());
        }
        if address.protocol == Protocol::Udp {
            return Err("a datagram waits for no worker".into());
        }
        if self.is_extended(PortKey::of(address)) {
            return Err(EXTENDED.into());
        }
        if let Some(obstacle) = self.obstacle(address) {
            return Err(obstacle);
        }
        let gate = self.any(slots, address).ok_or("there is no member")?.open_gate();
        let gate = gate.map_err(|errno| errno.to_string())?;
        self.exclude_newcomers(slots, address);
        gate.listen(1).map_err(|errno| errno.to_string())?;
        let inode = gate.inode();
        if let Some(group) = self.groups.get_mut(address) {
            group.join(inode);
        }
        self.gates.insert(address.clone(), gate);
        self.select(slots, address, Selection::OnlyGate, |member| *member == inode)
    }

    pub(super) fn close_all(&mut self, slots: &Slots) {
        self.leave_extended(slots);
        let connects = |address: &&Address| address.protocol == Protocol::Tcp;
        for address in self.groups.keys().filter(connects).cloned().collect::<Vec<_>>() {
            if self.traffic.left.contains(&PortKey::of(&address)) {
                continue;
            }
            if self.close(slots, &address).is_err() && !self.unordered.contains(&address) {
                self.leave(slots, &address, true);
                self.leaving.insert(address);
            }
        }
    }

    /// Lets the members drop new clients, or no longer.
    pub(super) fn leave(&self, slots: &Slots, address: &Address, drop: bool) {
        for inode in slots.members(address).keys() {
            let socket = slots.sockets.get(inode);
            // On failure the worker serves new clients until it ends.
            let _ = socket.map(|socket| socket.drop_new_clients(drop));
        }
    }

    /// Closes unused members that drop new clients: these wait for it.
    pub(super) fn close_left(&mut self, slots: &mut Slots) {
        let unused: Vec<(u64, Address)> = slots.held.unused().collect();
        for (inode, address) in unused {
            if self.leaving.contains(&address) {
                slots.remove(inode);
                self.remove(&address, inode);
            }
        }
    }

    /// Removes the gates.
    pub(super) fn reopen_all(&mut self, slots: &Slots) {
        self.traffic.left.clear();
        self.traffic.released.clear();
        for address in std::mem::take(&mut self.leaving) {
            self.leave(slots, &address, false);
        }
        for address in self.gates.keys().cloned().collect::<Vec<_>>() {
            self.reopen(slots, &address);
        }
    }

    /// Removes the gate of a group.
    pub(super) fn reopen(&mut self, slots: &Slots, address: &Address) {
        let Some(gate) = self.gates.remove(address) else { return };
        let inode = gate.inode();
        drop(gate);
        self.remove(address, inode);
        self.steer(slots, address);
    }
}
