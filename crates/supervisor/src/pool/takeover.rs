//! The sockets of workers whose supervisor was killed.

use std::collections::{BTreeMap, BTreeSet};

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::model::{Address, Protocol};
use sameport_policy::traffic::steering::order_after;
use sameport_sys::Errno;

use super::slots::SharedListener;
use super::{PoolState, SocketPool, WorkerRecord};
use crate::orphans::{OrphanedSocket, Orphans};

impl SocketPool {
    /// Holds the sockets of orphans, which use them until they end. `all`: also those that workers do
    /// not inherit.
    pub(crate) fn take_over(&self, orphans: &Orphans, all: bool) -> Result<(), Errno> {
        let PoolState { slots, steering, workers, .. } = &mut *self.state();
        for worker in &orphans.workers {
            workers.insert(worker.start, WorkerRecord::default());
            steering.traffic.worker_begins(worker.start, worker.ordinal);
            if let Some(first) = worker.processes.first() {
                steering.traffic.worker_runs(worker.start, first.pid());
            }
        }
        let mut members: BTreeMap<Address, BTreeSet<u64>> = BTreeMap::new();
        for OrphanedSocket { socket, address, users, passed } in &orphans.sockets {
            if !all && !passed {
                continue;
            }
            let inode = socket.inode();
            slots.held.hold(inode, address, users);
            slots.sockets.insert(inode, socket.duplicate()?);
            if *passed {
                let (address, passed) = (address.clone(), true);
                slots.shared.insert(inode, SharedListener { address, passed, outlives_run: false });
            }
            if address.protocol == Protocol::Tcp {
                members.entry(address.clone()).or_default().insert(inode);
            }
        }
        for (address, present) in members {
            let has_some = |group: &&Vec<u64>| group.iter().any(|inode| present.contains(inode));
            let earlier = orphans.groups.iter().find(has_some).map_or(&[][..], Vec::as_slice);
            steering.take_over(&address, order_after(earlier, &present), &present);
        }
        Ok(())
    }

    /// The held sockets that workers use, and the members of each group whose order is known.
    pub(crate) fn in_use(&self) -> (Vec<u64>, Vec<Vec<u64>>) {
        let PoolState { slots, steering, .. } = &*self.state();
        let is_used = |inode: &u64| !slots.held.users(*inode).is_empty();
        let used = slots.sockets.keys().copied().filter(is_used).collect();
        let ordered = steering.groups.iter().filter(|(at, _)| !steering.unordered.contains(*at));
        (used, ordered.map(|(_, group)| group.members().to_vec()).collect())
    }

    /// The addresses that a worker listens on, as the lifecycle knows them.
    pub(crate) fn listen_keys(&self, start: InstanceId) -> Vec<String> {
        self.addresses(start).iter().map(sameport_policy::readiness::listen_key).collect()
    }
}
