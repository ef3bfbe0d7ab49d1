//! The pool as one worker's calls see it: `bind`, `listen` and `shutdown`.

use std::os::fd::AsFd as _;

use sameport_policy::lifecycle::{Fallback, InstanceId, QueueMode};
use sameport_policy::model::{Address, Protocol};
use sameport_sys::Errno;
use sameport_sys::seccomp::NotifyListener;
use sameport_sys::socket::{FdAlias, NonBlocking, WorkerSocket, closes_on_exec};

use super::slots::listen_shared;
use super::{PoolState, SocketPool};

/// Maximum number of remembered sockets with a port of the kernel's choice. A forgotten one is held
/// until its worker ends, which costs a descriptor.
const MAX_EPHEMERAL: usize = 4096;

/// A worker's `bind` that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PendingBind<'a> {
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
    pub(crate) fn bind(
        &self,
        caller: PendingBind<'_>,
        socket: &WorkerSocket,
        address: &Address,
        may_bind: bool,
    ) -> Result<Option<BindResult>, Errno> {
        let mut state = self.pool.state();
        let is_datagram = address.protocol == Protocol::Udp;
        if let Some(inode) = state.slots.shared_on(address) {
            // Every worker may use a shared listener, whatever it may bind itself.
            if !state.try_replace(inode, self.start, caller, socket, address) {
                return Ok(None);
            }
            if is_datagram {
                self.pool.listens_on(&mut state, self.start, address);
            }
            return Ok(Some(BindResult::Replaced));
        }
        state.slots.find_rebound(self.start, caller.tid, address);
        let replaced = state
            .claim(address, self.start)
            .filter(|_| may_bind)
            .is_some_and(|inode| state.try_replace(inode, self.start, caller, socket, address));
        // A datagram socket gets traffic from its bind on. A shared queue must be known before the next
        // worker binds.
        let bind_now = is_datagram || state.queue == QueueMode::Shared;
        let result = match () {
            () if replaced => BindResult::Replaced,
            () if !bind_now || !may_bind => return Ok(None),
            () => {
                let bound = socket.bind(address.socket);
                if bound.is_err() {
                    return Ok(Some(BindResult::Made(bound)));
                }
                state.slots.add(socket.duplicate()?, address, self.start);
                BindResult::Made(bound)
            }
        };
        if is_datagram {
            state.update_store(address);
            self.pool.listens_on(&mut state, self.start, address);
        }
        Ok(Some(result))
    }

    /// Excludes a socket from the pool: the kernel selects its port, so no other worker binds it.
    pub(crate) fn ignore(&self, inode: u64) {
        let mut state = self.pool.state();
        if state.ephemeral.len() >= MAX_EPHEMERAL {
            state.ephemeral.clear();
        }
        state.ephemeral.insert(inode);
    }

    /// Whether the pool holds this socket once it listens.
    pub(crate) fn holds(&self, inode: u64) -> bool {
        !self.pool.state().ephemeral.contains(&inode)
    }

    /// Calls `listen` in the worker's place, so that the order of the group's members is known.
    pub(crate) fn listen(
        &self,
        socket: WorkerSocket,
        address: &Address,
        backlog: i32,
    ) -> Result<(), Errno> {
        let mut state = self.pool.state();
        let PoolState { slots, steering, .. } = &mut *state;
        let inode = socket.inode();
        let is_shared = slots.is_shared(inode);
        let is_live = slots.live.contains(&self.start) || is_shared;
        if !is_live && slots.members(address).values().any(|live| *live) {
            // The program must be in place before the kernel can select the new member.
            steering.exclude_newcomers(slots, address);
        }
        if is_shared {
            listen_shared(&socket, backlog)?;
        } else {
            socket.listen(backlog)?;
            steering.groups.entry(address.clone()).or_default().join(inode);
        }
        slots.add(socket, address, self.start);
        state.update_store(address);
        self.pool.listens_on(&mut state, self.start, address);
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
            state.release(inode);
        }
        !is_allowed
    }
}

impl PoolState {
    /// The held socket that answers a bind.
    fn claim(&self, address: &Address, start: InstanceId) -> Option<u64> {
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
    fn try_replace(
        &mut self,
        inode: u64,
        start: InstanceId,
        caller: PendingBind<'_>,
        socket: &WorkerSocket,
        address: &Address,
    ) -> bool {
        match self.replace(inode, start, caller, socket) {
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
        caller: PendingBind<'_>,
        socket: &WorkerSocket,
    ) -> Result<(), String> {
        let PendingBind { listener, id, tid, fd } = caller;
        let held = self.slots.sockets.get(&inode).ok_or("it is gone")?;
        if held.owner() != socket.owner() && !self.slots.is_shared(inode) {
            return Err("the worker's socket is another user's".into());
        }
        match socket.find_alias(tid, fd) {
            Ok(None) => {}
            Ok(Some(FdAlias::Epoll)) => {
                return Err("the program watches its socket (epoll) before it binds it".into());
            }
            Ok(Some(FdAlias::Duplicate)) => {
                return Err("the program has its socket twice before it binds it".into());
            }
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
