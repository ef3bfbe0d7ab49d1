//! Sockets that are older than the workers.
//!
//! A socket of a socket unit or of `--listen` serves all workers and is the only one on its address. A
//! socket from the service manager's store is unused, and answers the next bind of its address.

use std::collections::BTreeMap;

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::model::{Address, Protocol};
use sameport_policy::systemd::StoredName;
use sameport_sys::Errno;
use sameport_sys::socket::WorkerSocket;

use super::inherited::{InheritedSocket, Origin};
use super::slots::SharedListener;
use super::{PoolState, SocketPool};

impl SocketPool {
    /// Holds these sockets, for a run with `copies` workers.
    pub(crate) fn adopt(&self, sockets: &[InheritedSocket], copies: u16) -> Result<(), Errno> {
        let mut state = self.state();
        let PoolState { slots, steering, store, .. } = &mut *state;
        let mut by_address: BTreeMap<Address, Vec<StoredName>> = BTreeMap::new();
        for InheritedSocket { socket, address, origin, passed } in sockets {
            let inode = socket.inode();
            let outlives_run = *origin == Origin::Unit;
            if *passed || outlives_run {
                let (address, passed) = (address.clone(), *passed);
                slots.shared.insert(inode, SharedListener { address, passed, outlives_run });
            }
            match origin {
                Origin::Unit => steering.has_one_for_all(address),
                Origin::Stored(name) => {
                    by_address.entry(address.clone()).or_default().push(*name);
                    store.add(*name);
                }
                Origin::Opened => {
                    let name = StoredName { inode, index: None };
                    by_address.entry(address.clone()).or_default().push(name);
                }
            }
            if !outlives_run && socket.is_listening() == Ok(true) {
                // The last worker may have ended long ago. On failure the queue keeps its size.
                let _ = socket.raise_backlog();
            }
            slots.held.hold(inode, address, &[]);
            slots.sockets.insert(inode, socket.duplicate()?);
        }
        for (address, names) in by_address {
            if address.protocol == Protocol::Tcp {
                steering.restore_order(&address, &names);
                steering.choose_first(slots, &address, copies);
                steering.steer(slots, &address);
            }
            store.update(slots, steering, &address);
        }
        Ok(())
    }

    /// The sockets that a new worker inherits. The worker uses them from its start.
    pub(crate) fn pass_to(&self, start: InstanceId) -> Result<Vec<WorkerSocket>, Errno> {
        let mut state = self.state();
        let passed = state.slots.shared.iter().filter(|(_, shared)| shared.passed);
        let passed: Vec<(u64, Address)> =
            passed.map(|(inode, shared)| (*inode, shared.address.clone())).collect();
        let mut sockets = Vec::new();
        for (inode, address) in passed {
            let Some(socket) = state.slots.sockets.get(&inode) else { continue };
            sockets.push(socket.duplicate()?);
            state.slots.held.add_user(inode, &address, start);
            self.listens_on(&mut state, start, &address);
        }
        Ok(sockets)
    }
}
