//! Held sockets for the program that is executed in our place.

use std::io;

use sameport_sys::fd::inherit;
use sameport_sys::socket::WorkerSocket;

use super::SocketPool;
use crate::handover::HandoverSocket;

impl SocketPool {
    /// Everything, for the program that is executed in our place; the sockets are passed to it.
    pub(crate) fn pass(&self) -> io::Result<(Vec<HandoverSocket>, Vec<Vec<u64>>)> {
        let state = self.state();
        let mut sockets = Vec::new();
        for (inode, socket) in &state.sockets {
            let Some(address) = state.slots.address(*inode) else { continue };
            let users = state.slots.users(*inode);
            let older = state.older(*inode, address);
            sockets.push(HandoverSocket::new(
                inherit::keep_on_exec(socket)?,
                address,
                users,
                older,
            ));
        }
        Ok((sockets, state.groups.values().map(|group| group.members().to_vec()).collect()))
    }

    /// It was not executed.
    pub(crate) fn stay(&self) -> io::Result<()> {
        Ok(self.state().sockets.values().try_for_each(inherit::close_on_exec)?)
    }

    /// What was passed to us.
    pub(crate) fn take(&self, sockets: &[HandoverSocket], groups: &[Vec<u64>]) -> io::Result<()> {
        let mut state = self.state();
        for socket in sockets {
            let address = socket.address();
            let held = WorkerSocket::from_inherited(socket.descriptor)?;
            let inode = held.inode();
            state.slots.hold(inode, &address, &socket.users);
            state.restore_older(inode, &address, &socket.older);
            state.begun.extend(socket.users.iter().map(|start| (*start, None)));
            state.sockets.insert(inode, held);
        }
        for members in groups {
            let Some(address) = members.first().and_then(|inode| state.slots.address(*inode))
            else {
                continue;
            };
            let address = address.clone();
            let group = state.groups.entry(address).or_default();
            members.iter().for_each(|inode| group.join(*inode));
        }
        Ok(())
    }
}
