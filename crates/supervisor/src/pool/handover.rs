//! The pool before and after a `reexec`.

use std::io;

use sameport_policy::model::Address;
use sameport_policy::traffic::steering::OrderedGroup;
use sameport_sys::fd::inherit;
use sameport_sys::socket::WorkerSocket;

use super::slots::SharedListener;
use super::{PoolState, SocketPool, WorkerRecord};
use crate::handover::{HandoverSocket, SocketHistory};

impl SocketPool {
    /// Makes the sockets survive `exec`, and describes them and the order of the groups.
    pub(crate) fn keep_on_exec(&self) -> io::Result<(Vec<HandoverSocket>, Vec<Vec<u64>>)> {
        let PoolState { slots, steering, store, .. } = &*self.state();
        let mut sockets = Vec::new();
        for (inode, socket) in &slots.sockets {
            let Some(address) = slots.held.address(*inode) else { continue };
            let shared = slots.shared.get(inode);
            let history = SocketHistory {
                shared: shared.map(|shared| (shared.passed, shared.outlives_run)),
                stored: store.name(*inode).map(|name| name.to_string()),
                unordered: steering.unordered.contains(address),
            };
            let users = slots.held.users(*inode);
            sockets.push(HandoverSocket::new(
                inherit::keep_on_exec(socket)?,
                address,
                users,
                history,
            ));
        }
        // `exec` closes the gates.
        let without_gate = |(address, group): (&Address, &OrderedGroup<u64>)| {
            let mut group = group.clone();
            if let Some(gate) = steering.gates.get(address) {
                group.leave(&gate.inode());
            }
            group.members().to_vec()
        };
        Ok((sockets, steering.groups.iter().map(without_gate).collect()))
    }

    /// Undoes [`Self::pass`] after a failed `exec`.
    pub(crate) fn close_on_exec(&self) -> io::Result<()> {
        Ok(self.state().slots.sockets.values().try_for_each(inherit::close_on_exec)?)
    }

    /// Takes the sockets that the previous program passed.
    pub(crate) fn restore(
        &self,
        sockets: &[HandoverSocket],
        groups: &[Vec<u64>],
    ) -> io::Result<()> {
        let mut state = self.state();
        let PoolState { slots, steering, store, workers, .. } = &mut *state;
        for passed in sockets {
            let address = passed.address();
            let socket = WorkerSocket::from_inherited(passed.descriptor)?;
            let inode = socket.inode();
            slots.held.hold(inode, &address, &passed.users);
            slots.sockets.insert(inode, socket);
            workers.extend(passed.users.iter().map(|start| (*start, WorkerRecord::default())));
            let SocketHistory { shared, stored, unordered } = &passed.history;
            if let Some((passed, outlives_run)) = *shared {
                let address = address.clone();
                if outlives_run {
                    steering.has_one_for_all(&address);
                }
                slots.shared.insert(inode, SharedListener { address, passed, outlives_run });
            }
            if let Some(name) = stored.as_ref().and_then(|name| name.parse().ok()) {
                store.add(name);
            }
            if *unordered {
                steering.unordered.insert(address);
            }
        }
        for members in groups {
            let first = members.first().and_then(|inode| slots.held.address(*inode));
            let Some(address) = first else { continue };
            steering.programs.insert(address.clone());
            let group = steering.groups.entry(address.clone()).or_default();
            members.iter().for_each(|inode| group.join(*inode));
        }
        Ok(())
    }
}
