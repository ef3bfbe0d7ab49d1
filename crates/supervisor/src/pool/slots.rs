//! The held sockets: our duplicates, their addresses, and the workers that use each.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sameport_policy::lifecycle::{HeldSockets, InstanceId};
use sameport_policy::model::Address;
use sameport_sys::Errno;
use sameport_sys::socket::WorkerSocket;

use super::opened_fd::OpenedFd;

/// A socket that all workers share. It is the only one on its address: every bind there is answered
/// with it.
#[derive(Debug, Clone)]
pub(crate) struct SharedListener {
    pub(crate) address: Address,
    /// Whether workers inherit it as an open descriptor.
    pub(crate) passed: bool,
    /// Whether a socket unit has it open too, so that it outlives the run.
    pub(crate) outlives_run: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub(super) held: HeldSockets,
    /// Duplicates, by inode.
    pub(super) sockets: BTreeMap<u64, WorkerSocket>,
    /// Sockets that all workers share, by inode.
    pub(super) shared: BTreeMap<u64, SharedListener>,
    /// Workers that are ready.
    pub(super) live: BTreeSet<InstanceId>,
    /// The descriptors of held sockets, by the worker that opened them.
    pub(super) opened: BTreeMap<InstanceId, BTreeMap<u64, OpenedFd>>,
    /// Sockets that one inspection did not find open in the worker that uses them.
    seems_closed: BTreeSet<(u64, InstanceId)>,
}

impl Slots {
    /// The sockets on an address, and whether a live worker uses each.
    pub(super) fn members(&self, address: &Address) -> BTreeMap<u64, bool> {
        self.held.on_address(address, &self.live)
    }

    /// The sockets that this worker uses and no other.
    pub(super) fn own(&self, start: InstanceId) -> HashSet<u64> {
        let own = |inode: &u64| !self.held.is_used_by_another(*inode, start);
        self.held.used_by(start).map(|(inode, _)| inode).filter(own).collect()
    }

    /// Number of connections in the accept queue of a socket.
    pub(super) fn waiting(&self, inode: u64) -> u32 {
        let queue = self.sockets.get(&inode).and_then(|socket| socket.accept_queue().ok());
        queue.map_or(0, |queue| queue.waiting)
    }

    /// Adds a socket, and this worker as its user.
    pub(super) fn add(&mut self, socket: WorkerSocket, address: &Address, start: InstanceId) {
        let inode = socket.inode();
        self.held.add_user(inode, address, start);
        self.sockets.entry(inode).or_insert(socket);
    }

    pub(super) fn remove(&mut self, inode: u64) {
        self.sockets.remove(&inode);
        self.held.release(inode);
        for opened in self.opened.values_mut() {
            opened.remove(&inode);
        }
    }

    /// Removes a worker. A socket that lost its last user waits for the next worker, with the largest
    /// backlog that the system allows.
    pub(super) fn ended(&mut self, start: InstanceId) {
        self.seems_closed.retain(|(_, other)| *other != start);
        self.opened.remove(&start);
        for inode in self.held.remove_instance(start) {
            let Some(socket) = self.sockets.get(&inode) else { continue };
            if socket.is_listening() == Ok(true) {
                // On failure the queue keeps its size, and the kernel drops what does not fit.
                let _ = socket.raise_backlog();
            }
        }
    }

    /// Marks as unused those of a worker's sockets that this and the last inspection did not find open.
    pub(super) fn closed_since(
        &mut self,
        start: InstanceId,
        used: &HashSet<u64>,
        open: &HashSet<u64>,
    ) {
        for inode in used {
            if open.contains(inode) {
                self.seems_closed.remove(&(*inode, start));
            } else if !self.seems_closed.insert((*inode, start)) {
                self.seems_closed.remove(&(*inode, start));
                self.forget(*inode, start);
            }
        }
    }

    /// The socket of this address that all workers share.
    pub(super) fn shared_on(&self, address: &Address) -> Option<u64> {
        let on = |shared: &SharedListener| shared.address == *address;
        self.shared.iter().find(|(_, shared)| on(shared)).map(|(inode, _)| *inode)
    }

    pub(super) fn is_shared(&self, inode: u64) -> bool {
        self.shared.contains_key(&inode)
    }

    pub(super) fn outlives_run(&self, inode: u64) -> bool {
        self.shared.get(&inode).is_some_and(|shared| shared.outlives_run)
    }
}

/// `listen` on a socket that all workers share: never reduces the backlog, which other workers rely on.
pub(super) fn listen_shared(socket: &WorkerSocket, backlog: i32) -> Result<(), Errno> {
    let requested = u32::try_from(backlog).unwrap_or(u32::MAX);
    match socket.accept_queue() {
        Ok(queue) if queue.limit >= requested => Ok(()),
        _ => socket.listen(backlog),
    }
}
