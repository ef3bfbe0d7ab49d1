//! Gates: members that accept no connection. While a run stops, its groups steer clients there; their
//! handshakes stay unanswered until the sockets close.

use sameport_policy::model::Address;

use super::slots::Slots;
use super::steering::Steering;

impl Steering {
    /// Adds a gate to a group and steers all new connections to it.
    pub(super) fn close(&mut self, slots: &Slots, address: &Address) -> Result<(), String> {
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
        self.steer_to(slots, address, |member| *member == inode)
    }

    pub(super) fn close_all(&mut self, slots: &Slots) {
        for address in self.groups.keys().cloned().collect::<Vec<_>>() {
            // Without a gate, workers serve new clients until they end.
            let _ = self.close(slots, &address);
        }
    }

    /// Removes the gates.
    pub(super) fn reopen_all(&mut self, slots: &Slots) {
        for (address, gate) in std::mem::take(&mut self.gates) {
            let inode = gate.inode();
            drop(gate);
            if let Some(group) = self.groups.get_mut(&address) {
                group.leave(&inode);
            }
            self.steer(slots, &address);
        }
    }
}
