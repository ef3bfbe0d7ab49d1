//! Drops of addresses. The kernel counts for each socket, and forgets the count with the socket; a counter of
//! an address must not shrink when a member leaves.

use std::collections::BTreeMap;

use sameport_addr::Address;

use crate::model::Socket;

/// The drops of each address since its first look.
#[derive(Debug, Clone, Default)]
pub struct DropTotals {
    /// By cookie.
    sockets: BTreeMap<u64, u32>,
    totals: BTreeMap<Address, u64>,
}

impl DropTotals {
    /// Takes the sockets of a look. Addresses that are not listed any more begin again at 0.
    pub fn look(&mut self, sockets: &[Socket]) {
        let mut seen = BTreeMap::new();
        let mut totals = BTreeMap::new();
        for socket in sockets {
            let Some(drops) = socket.drops else { continue };
            let total = totals
                .entry(socket.address.clone())
                .or_insert_with(|| self.totals.get(&socket.address).copied().unwrap_or_default());
            // A socket that is new to this look may have dropped before. The kernel's count wraps.
            let before = self.sockets.get(&socket.cookie).copied().unwrap_or_default();
            *total += u64::from(drops.wrapping_sub(before));
            seen.insert(socket.cookie, drops);
        }
        (self.sockets, self.totals) = (seen, totals);
    }

    /// The drops of an address; `None` if the kernel does not say.
    #[must_use]
    pub fn of(&self, address: &Address) -> Option<u64> {
        self.totals.get(address).copied()
    }
}
