//! Puts a held socket in the place of a worker's new socket.

use std::os::fd::AsFd as _;

use sameport_policy::lifecycle::{Fallback, InstanceId};
use sameport_policy::model::{Address, Protocol};
use sameport_sys::socket::{FdAlias, NonBlocking, WorkerSocket, closes_on_exec};

use super::PoolState;
use super::worker_view::BlockedCall;

impl PoolState {
    /// The held socket that takes the place of a worker's.
    pub(super) fn claim(&self, address: &Address, start: InstanceId) -> Option<u64> {
        let replaces = self.workers.get(&start).and_then(|worker| worker.replaces);
        let answer = || match replaces {
            // Steering can keep connections from a socket of the worker's own until it is ready.
            Some(_)
                if address.protocol == Protocol::Tcp
                    && self.steering.obstacle(address).is_none() =>
            {
                Fallback::OwnSocket
            }
            Some(predecessor) => Fallback::SocketOf(predecessor),
            None => Fallback::OwnSocket,
        };
        self.steering
            .unused(&self.slots, address)
            .or_else(|| self.slots.held.claim(address, start, self.queue, answer()))
    }

    /// Replaces the worker's socket by a held one; on failure, the reason goes into the status.
    pub(super) fn try_replace(
        &mut self,
        inode: u64,
        start: InstanceId,
        caller: BlockedCall<'_>,
        socket: &WorkerSocket,
        address: &Address,
    ) -> bool {
        match self.replace(inode, start, caller, socket, address) {
            Ok(()) => {
                self.not_replaced.remove(address);
                self.slots.held.add_user(inode, address, start);
                true
            }
            Err(why) => {
                self.not_replaced.insert(address.clone(), why);
                false
            }
        }
    }

    fn replace(
        &self,
        inode: u64,
        start: InstanceId,
        caller: BlockedCall<'_>,
        socket: &WorkerSocket,
        address: &Address,
    ) -> Result<(), String> {
        let BlockedCall { listener, id, tid, fd } = caller;
        let held = self.slots.sockets.get(&inode).ok_or("it is gone")?;
        if held.owner() != socket.owner() && !self.slots.is_shared(inode) {
            return Err("the worker's socket is another user's".into());
        }
        match socket.find_alias(tid, fd) {
            Ok(None) => {}
            Ok(Some(alias)) => return Err(not_alone(alias, address.protocol)),
            Err(errno) => return Err(format!("its descriptors cannot be read: {errno}")),
        }
        let is_shared = self.slots.held.is_used_by_another(inode, start);
        let flag = if is_shared { NonBlocking::OnlySet } else { NonBlocking::Same };
        socket.copy_options_to(held, flag).map_err(|error| error.to_string())?;
        let close_on_exec = closes_on_exec(tid, fd).map_err(|errno| errno.to_string())?;
        listener
            .replace_fd(id, held.as_fd(), fd, close_on_exec)
            .map(drop)
            .map_err(|errno| format!("it could not be put into the worker: {errno}"))
    }
}

/// Why a socket with this second reference stays the worker's own.
fn not_alone(alias: FdAlias, protocol: Protocol) -> String {
    let call = match protocol {
        Protocol::Tcp => "it calls listen",
        Protocol::Udp => "it binds it",
    };
    match alias {
        FdAlias::Epoll => format!("the program watches its socket (epoll) before {call}"),
        FdAlias::Duplicate => format!("the program has its socket twice before {call}"),
    }
}
