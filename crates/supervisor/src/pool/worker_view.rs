//! The pool as one worker's calls see it: `bind`, `listen` and `shutdown`.

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::model::{Address, Protocol};
use sameport_sys::Errno;
use sameport_sys::seccomp::NotifyListener;
use sameport_sys::socket::WorkerSocket;

use super::slots::{Slots, listen_shared};
use super::steering::Steering;
use super::{PoolState, SocketPool};
use crate::traffic::{PortKey, extended};

/// Maximum number of remembered sockets with a port of the kernel's choice. A forgotten one is held
/// until its worker ends, which costs a descriptor.
const MAX_EPHEMERAL: usize = 4096;

/// A worker's call that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockedCall<'a> {
    pub listener: &'a NotifyListener,
    pub id: u64,
    pub tid: i32,
    pub fd: i32,
}

/// The pool for one worker and all its processes.
#[derive(Debug, Clone)]
pub(crate) struct WorkerSockets {
    pool: SocketPool,
    start: InstanceId,
}

/// How the pool answered a `bind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BindResult {
    /// A held socket replaced the worker's socket.
    Replaced,
    /// The supervisor called `bind` on the worker's socket, with this result.
    Made(Result<(), Errno>),
}

impl WorkerSockets {
    pub(crate) fn new(pool: SocketPool, start: InstanceId) -> Self {
        Self { pool, start }
    }

    /// Answers a `bind` of a socket that can be shared. `None`: the worker's own call proceeds.
    ///
    /// A TCP socket takes connections from its `listen` on, and is replaced there. Its bind is the
    /// worker's own, with the rights that the worker has; so a program that binds without listening
    /// holds no queue. A datagram socket takes traffic from its bind on.
    pub(crate) fn bind(
        &self,
        caller: BlockedCall<'_>,
        socket: &WorkerSocket,
        address: &Address,
        may_bind: bool,
    ) -> Result<Option<BindResult>, Errno> {
        let is_datagram = address.protocol == Protocol::Udp;
        if is_datagram && may_bind {
            self.pool.find_rebound(self.start, caller.tid, address);
        }
        let shared = self.pool.state().slots.shared_on(address);
        if let Some(inode) = shared {
            // Every worker may use a shared listener, whatever it may bind itself.
            let replaced = self.pool.try_replace(Some(inode), self.start, caller, socket, address);
            if replaced.is_none() {
                return Ok(None);
            }
            let mut state = self.pool.state();
            let listens = |it: &WorkerSocket| is_datagram || it.is_listening() == Ok(true);
            if state.slots.sockets.get(&inode).is_some_and(listens) {
                state.record_opened(self.start, inode, address, caller);
                // A program that finds SO_ACCEPTCONN set may leave out its `listen`.
                self.pool.listens_on(&mut state, self.start, address);
            }
            return Ok(Some(BindResult::Replaced));
        }
        let is_held = || self.pool.state().is_to_hold(self.start, address);
        if !is_datagram || !may_bind || !is_held() {
            return Ok(None);
        }
        let replaced = self.pool.try_replace(None, self.start, caller, socket, address);
        let mut state = self.pool.state();
        let PoolState { slots, steering, .. } = &mut *state;
        let is_steered = steering.can_hold_back(address);
        let (inode, result) = match replaced {
            Some(inode) => (inode, BindResult::Replaced),
            None => {
                if is_steered {
                    self.keep_back(slots, steering, address);
                }
                let bound = socket.bind(address.socket);
                if bound.is_err() {
                    return Ok(Some(BindResult::Made(bound)));
                }
                slots.add(socket.duplicate()?, address, self.start);
                (socket.inode(), BindResult::Made(bound))
            }
        };
        if is_steered {
            steering.groups.entry(address.clone()).or_default().join(inode);
        }
        self.opened(&mut state, inode, address, caller);
        Ok(Some(result))
    }

    /// The worker has restricted itself: the supervisor must not bind for it any more.
    pub(crate) fn restrict(&self) {
        self.pool.restrict(self.start);
    }

    /// Whether the worker has restricted itself.
    pub(crate) fn is_restricted(&self) -> bool {
        self.pool.is_restricted(self.start)
    }

    /// Excludes a socket from the pool: the kernel selects its port, so no other worker binds it.
    pub(crate) fn ignore(&self, inode: u64) {
        let mut state = self.pool.state();
        if state.ephemeral.len() >= MAX_EPHEMERAL {
            state.ephemeral.clear();
        }
        state.ephemeral.insert(inode);
    }

    /// Whether the pool holds this socket once it listens on this address.
    pub(crate) fn holds(&self, inode: u64, address: &Address) -> bool {
        let state = self.pool.state();
        state.slots.held.holds(inode)
            || !state.ephemeral.contains(&inode) && state.is_to_hold(self.start, address)
    }

    /// Answers a `listen`: puts a held socket in the place of the worker's, or calls `listen` on the
    /// worker's socket, so that the order of the group's members is known.
    pub(crate) fn listen(
        &self,
        caller: BlockedCall<'_>,
        socket: WorkerSocket,
        address: &Address,
        backlog: i32,
    ) -> Result<(), Errno> {
        self.pool.prepare(PortKey::of(address));
        let is_held = self.pool.state().slots.held.holds(socket.inode());
        if !is_held {
            self.pool.find_rebound(self.start, caller.tid, address);
        }
        let claim = || self.pool.claim(None, address, self.start);
        if !is_held
            && let Some(claim) = claim()
            && self.pool.replace(&claim, self.start, caller, &socket, address)
        {
            let mut state = self.pool.state();
            self.listen_replaced(&mut state, claim.inode, address, backlog)?;
            self.opened(&mut state, claim.inode, address, caller);
            return Ok(());
        }
        if self.is_newcomer(&socket, address) {
            extended::hold_back(PortKey::of(address), &socket);
        }
        let mut state = self.pool.state();
        let PoolState { slots, steering, .. } = &mut *state;
        let inode = socket.inode();
        let is_shared = slots.is_shared(inode);
        if !is_shared {
            self.keep_back(slots, steering, address);
        }
        if is_shared || slots.held.is_used_by_another(inode, self.start) {
            listen_shared(&socket, backlog)?;
        } else {
            socket.listen(backlog)?;
        }
        if !is_shared {
            steering.groups.entry(address.clone()).or_default().join(inode);
        }
        slots.add(socket, address, self.start);
        let port = PortKey::of(address);
        if !is_shared && steering.traffic.claimed.contains(&port) && steering.is_extended(port) {
            // Not admitted before it is ready, also where members of others are.
            steering.steer_extended(slots, port);
        }
        self.opened(&mut state, inode, address, caller);
        Ok(())
    }

    /// Whether a group of eBPF has to wait with this socket until the worker is ready.
    fn is_newcomer(&self, socket: &WorkerSocket, address: &Address) -> bool {
        let state = self.pool.state();
        !state.slots.live.contains(&self.start)
            && !state.slots.is_shared(socket.inode())
            && state.steering.is_extended(PortKey::of(address))
            && socket.is_listening() == Ok(false)
    }

    /// Keeps the socket that joins next from traffic, unless the worker is ready or nobody else is. The
    /// program must be in place before the kernel can select the new member.
    fn keep_back(&self, slots: &Slots, steering: &mut Steering, address: &Address) {
        let is_live = slots.live.contains(&self.start);
        if !is_live && slots.members(address).values().any(|live| *live) {
            steering.exclude_newcomers(slots, address);
        }
    }

    /// Records that the worker has a held socket on this address.
    fn opened(
        &self,
        state: &mut PoolState,
        inode: u64,
        address: &Address,
        caller: BlockedCall<'_>,
    ) {
        state.update_store(address);
        if state.record_opened(self.start, inode, address, caller) {
            self.pool.listens_on(state, self.start, address);
        } else {
            self.pool.0.changed.notify_one();
        }
    }

    /// Sets the backlog of a held socket that a worker has just got.
    fn listen_replaced(
        &self,
        state: &mut PoolState,
        inode: u64,
        address: &Address,
        backlog: i32,
    ) -> Result<(), Errno> {
        let PoolState { slots, steering, .. } = &mut *state;
        if let Some(held) = slots.sockets.get(&inode) {
            match slots.held.is_used_by_another(inode, self.start) {
                true => listen_shared(held, backlog)?,
                false => held.listen(backlog)?,
            }
            steering.groups.entry(address.clone()).or_default().join(inode);
        }
        Ok(())
    }

    /// Whether all workers share this socket.
    pub(crate) fn is_shared(&self, inode: u64) -> bool {
        self.pool.state().slots.is_shared(inode)
    }

    /// Whether to suppress a `shutdown` of this socket, which would end the listener for the next
    /// worker too.
    pub(crate) fn suppresses_shutdown(&self, inode: u64) -> bool {
        let mut state = self.pool.state();
        if !state.slots.held.holds(inode) {
            return false;
        }
        // Programs wake their threads by `shutdown`. A worker that got SIGTERM may do so once its queue
        // is empty and no other worker needs the socket.
        let slots = &state.slots;
        let is_allowed = !slots.is_shared(inode)
            && state.workers.get(&self.start).is_some_and(|worker| worker.terminating)
            && !slots.held.is_used_by_another(inode, self.start)
            && slots
                .sockets
                .get(&inode)
                .and_then(|it| it.accept_queue().ok())
                .is_some_and(|it| it.waiting == 0)
            && (state.closing || !slots.live.is_empty());
        if is_allowed {
            // The socket leaves its group only by the call that follows. The program for that moment
            // stays until the group is steered again, at the latest in the next round.
            state.remove(inode);
        }
        !is_allowed
    }
}
