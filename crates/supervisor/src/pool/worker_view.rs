//! The held sockets, as one worker meets them: its binds, listens and shutdowns.

use sameport_policy::lifecycle::{InstanceId, QueueMode};
use sameport_policy::model::{Address, Protocol};
use sameport_sys::Errno;
use sameport_sys::seccomp::NotifyListener;
use sameport_sys::socket::WorkerSocket;

use super::{MOST_LEFT_ALONE, SocketPool, shared_listener};

/// A worker's call, and where it is to be answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PendingBind<'a> {
    pub listener: &'a NotifyListener,
    pub id: u64,
    pub tid: i32,
    pub fd: i32,
}

/// The held sockets, as the process of one start and all that it starts uses them.
#[derive(Debug, Clone)]
pub(crate) struct WorkerSockets {
    pub(crate) held: SocketPool,
    pub(crate) start: InstanceId,
}

/// What became of a bind here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BindResult {
    /// A held socket took the place of the worker's.
    Replaced,
    /// The worker's socket was bound, or could not be.
    Made(Result<(), Errno>),
}

impl WorkerSockets {
    /// A bind of a socket that can be shared. `None`: the worker's own bind is to happen.
    pub(crate) fn bind(
        &self,
        caller: PendingBind<'_>,
        socket: &WorkerSocket,
        address: &Address,
        may_bind: bool,
    ) -> Result<Option<BindResult>, Errno> {
        let mut state = self.held.state();
        if let Some(inode) = state.common_on(address) {
            let bound = state.bind_common(inode, self.start, caller, socket, address);
            if bound.is_some() && address.protocol == Protocol::Udp {
                state.listens.push((self.start, address.clone()));
                self.held.0.changed.notify_one();
            }
            return Ok(bound);
        }
        state.look_for_rebound(self.start, caller.tid, address);
        let instead = state.instead(address, self.start);
        let claimed = state
            .left_behind(address)
            .or_else(|| state.slots.claim(address, self.start, state.queue, instead));
        if let Some(inode) = claimed.filter(|_| may_bind) {
            match state.put(inode, self.start, caller, socket) {
                Ok(()) => {
                    state.not_put.remove(address);
                    state.slots.add_user(inode, address, self.start);
                    if address.protocol == Protocol::Udp {
                        state.tell_store(address);
                        state.listens.push((self.start, address.clone()));
                        self.held.0.changed.notify_one();
                    }
                    return Ok(Some(BindResult::Replaced));
                }
                Err(why) => {
                    state.not_put.insert(address.clone(), why);
                }
            }
        }
        // A datagram socket takes traffic from here on, and one that all are to share must be known
        // before the next worker asks for it.
        let now = address.protocol == Protocol::Udp || state.queue == QueueMode::Shared;
        if !now || !may_bind {
            return Ok(None);
        }
        let bound = socket.bind(address.socket);
        if bound.is_ok() {
            state.hold(socket.duplicate()?, address, self.start);
            if address.protocol == Protocol::Udp {
                state.tell_store(address);
                state.listens.push((self.start, address.clone()));
                self.held.0.changed.notify_one();
            }
        }
        Ok(Some(BindResult::Made(bound)))
    }

    /// The kernel picks a port for this socket, which nobody who comes later will ask for.
    pub(crate) fn leave_alone(&self, inode: u64) {
        let mut state = self.held.state();
        if state.left_alone.len() >= MOST_LEFT_ALONE {
            state.left_alone.clear();
        }
        state.left_alone.insert(inode);
    }

    /// Whether this socket is one to hold.
    pub(crate) fn holds(&self, inode: u64) -> bool {
        !self.held.state().left_alone.contains(&inode)
    }

    /// A `listen` of a socket that can be shared: done here, so that the order of members is known.
    pub(crate) fn listen(
        &self,
        socket: WorkerSocket,
        address: &Address,
        backlog: i32,
    ) -> Result<(), Errno> {
        let mut state = self.held.state();
        let inode = socket.inode();
        let is_common = state.is_common(inode);
        let live = state.live.contains(&self.start) || is_common;
        if !live && state.slots.on_address(address, &state.live).values().any(|live| *live) {
            // Whoever is not ready must not be chosen, not even for a moment.
            state.keep_newcomers_out(address);
        }
        if is_common {
            shared_listener::listen_common(&socket, backlog)?;
        } else {
            socket.listen(backlog)?;
            state.groups.entry(address.clone()).or_default().join(inode);
        }
        state.slots.add_user(inode, address, self.start);
        state.sockets.entry(inode).or_insert(socket);
        state.tell_store(address);
        state.listens.push((self.start, address.clone()));
        self.held.0.changed.notify_one();
        Ok(())
    }

    /// Whether this socket is one that all workers share.
    pub(crate) fn is_common(&self, inode: u64) -> bool {
        self.held.state().is_common(inode)
    }

    /// Whether a `shutdown` of this socket is not to happen: it would end it for whoever comes next.
    pub(crate) fn withstands_shutdown(&self, inode: u64) -> bool {
        let mut state = self.held.state();
        if !state.slots.holds(inode) {
            return false;
        }
        // A worker that was told to end may wake its own threads by it, once nobody waits there and
        // if nobody is to come after it.
        let leaves = !state.is_common(inode)
            && state.told.contains(&self.start)
            && !state.slots.is_used_by_another(inode, self.start)
            && state
                .sockets
                .get(&inode)
                .and_then(|socket| socket.accept_queue().ok())
                .is_some_and(|queue| queue.waiting == 0)
            && (state.closing || !state.live.is_empty());
        if leaves {
            state.release(inode);
        }
        !leaves
    }
}
