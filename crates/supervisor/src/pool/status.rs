//! The state of each address, for `status`.

use std::collections::BTreeSet;

use sameport_policy::model::Address;

use super::{PoolState, SocketPool};
use crate::traffic::{PortKey, extended};

/// One address of the run.
#[derive(Debug)]
pub(crate) struct AddressStatus {
    pub address: Address,
    /// Number of sockets.
    pub members: usize,
    /// Connections in the accept queues of all members.
    pub waiting: u32,
    /// Sum of the backlogs.
    pub limit: u32,
    /// Why the sockets do not outlive their workers.
    pub not_held: Option<String>,
    /// Why new connections can go to workers that are not ready.
    pub not_steered: Option<String>,
    /// Whether no worker uses the sockets.
    pub unused: bool,
}

impl SocketPool {
    pub(crate) fn status(&self) -> Vec<AddressStatus> {
        let state = self.state();
        let held = state.slots.held.addresses();
        let mut all: Vec<AddressStatus> =
            held.into_iter().map(|it| state.held_status(it)).collect();
        let not_held = || state.workers.values().map(|worker| &worker.not_held);
        for address in not_held().flatten().collect::<BTreeSet<_>>() {
            let reason = || Some("the sockets of this run are not held".to_owned());
            all.push(AddressStatus {
                address: address.clone(),
                members: not_held().filter(|addresses| addresses.contains(address)).count(),
                waiting: 0,
                limit: 0,
                not_held: reason(),
                // A state of eBPF follows the workers also without their sockets.
                not_steered: reason().filter(|_| !extended::exists(PortKey::of(address))),
                unused: false,
            });
        }
        all
    }
}

impl PoolState {
    fn held_status(&self, address: &Address) -> AddressStatus {
        let Self { slots, steering, .. } = self;
        let members = slots.members(address);
        let queues =
            members.keys().filter_map(|inode| slots.sockets.get(inode)?.accept_queue().ok());
        let (waiting, limit) = queues
            .fold((0, 0), |(waiting, limit), queue| (waiting + queue.waiting, limit + queue.limit));
        let is_free = |inode: &u64| slots.held.unused().any(|(free, _)| free == *inode);
        AddressStatus {
            address: address.clone(),
            members: members.len(),
            waiting,
            limit,
            unused: members.keys().all(is_free),
            not_held: self.not_replaced.get(address).cloned(),
            not_steered: match steering.records(address) {
                true => steering.failures.get(address).cloned(),
                false => Some("datagrams have no queue of their own to leave out".into()),
            },
        }
    }
}
