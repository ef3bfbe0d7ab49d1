//! Puts a held socket in the place of a worker's new socket.

use std::os::fd::AsFd as _;

use sameport_policy::lifecycle::{Fallback, InstanceId};
use sameport_policy::model::{Address, Protocol};
use sameport_sys::socket::{FdAlias, NonBlocking, WorkerSocket, closes_on_exec};

use super::worker_view::BlockedCall;
use super::{PoolState, SocketPool};

/// A held socket that a worker uses from now on, unless it cannot get it.
pub(super) struct Claim {
    pub(super) inode: u64,
    held: WorkerSocket,
    /// Whether other workers use it too.
    is_shared: bool,
    /// Whether it may be another user's.
    any_owner: bool,
}

impl SocketPool {
    /// Claims the held socket that takes the place of a worker's, and [`Self::replace`]s it. `inode`: a
    /// socket that all workers share. Gives the inode of the held socket.
    pub(super) fn try_replace(
        &self,
        inode: Option<u64>,
        start: InstanceId,
        caller: BlockedCall<'_>,
        socket: &WorkerSocket,
        address: &Address,
    ) -> Option<u64> {
        let claim = self.claim(inode, address, start)?;
        self.replace(&claim, start, caller, socket, address).then_some(claim.inode)
    }

    /// Marks the held socket that takes the place of a worker's as used by the worker.
    pub(super) fn claim(
        &self,
        inode: Option<u64>,
        address: &Address,
        start: InstanceId,
    ) -> Option<Claim> {
        let mut state = self.state();
        let inode = inode.or_else(|| state.choose(address, start))?;
        let held = state.slots.sockets.get(&inode)?.duplicate().ok()?;
        let is_shared = state.slots.held.is_used_by_another(inode, start);
        let any_owner = state.slots.is_shared(inode);
        state.slots.held.add_user(inode, address, start);
        Some(Claim { inode, held, is_shared, any_owner })
    }

    /// Replaces the worker's socket by a held one; on failure, the reason goes into the status. Reads the
    /// worker's descriptors and waits for its thread, so the lock of the pool is free meanwhile.
    pub(super) fn replace(
        &self,
        claim: &Claim,
        start: InstanceId,
        caller: BlockedCall<'_>,
        socket: &WorkerSocket,
        address: &Address,
    ) -> bool {
        let replaced = claim.put(caller, socket, address);
        let mut state = self.state();
        match replaced {
            Ok(()) => {
                state.not_replaced.remove(address);
                true
            }
            Err(why) => {
                state.slots.held.remove_user(claim.inode, start);
                state.not_replaced.insert(address.clone(), why);
                false
            }
        }
    }
}

impl PoolState {
    fn choose(&self, address: &Address, start: InstanceId) -> Option<u64> {
        let replaces = self.workers.get(&start).and_then(|worker| worker.replaces);
        let answer = || match replaces {
            // Steering can keep connections from a socket of the worker's own until it is ready.
            Some(_)
                if self.steering.can_hold_back(address)
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
}

impl Claim {
    /// Puts the held socket in the place of the worker's.
    fn put(
        &self,
        caller: BlockedCall<'_>,
        socket: &WorkerSocket,
        address: &Address,
    ) -> Result<(), String> {
        let BlockedCall { listener, id, tid, fd } = caller;
        let held = &self.held;
        if held.owner() != socket.owner() && !self.any_owner {
            return Err("the worker's socket is another user's".into());
        }
        match socket.find_alias(tid, fd) {
            Ok(None) => {}
            Ok(Some(alias)) => return Err(not_alone(alias, address.protocol)),
            Err(errno) => return Err(format!("its descriptors cannot be read: {errno}")),
        }
        let flag = if self.is_shared { NonBlocking::OnlySet } else { NonBlocking::Same };
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
