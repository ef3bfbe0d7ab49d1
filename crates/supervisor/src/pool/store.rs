//! Held sockets in the file descriptor store of the service manager (FDSTORE), where they outlive the
//! run.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use sameport_policy::model::{Address, Protocol};
use sameport_policy::systemd;
use sameport_policy::systemd::StoredName;
use sameport_sys::systemd::notify::{NotifyBarrier, ServiceManager};

use super::slots::Slots;
use super::steering::Steering;

/// The sockets in the store, by inode.
#[derive(Debug, Default)]
pub(crate) struct ManagerStore {
    manager: Option<Arc<ServiceManager>>,
    stored: BTreeMap<u64, StoredName>,
    /// Sockets that the manager was asked to close and may still have open.
    leaving: BTreeMap<u64, NotifyBarrier>,
}

impl ManagerStore {
    pub(crate) fn new(manager: Option<Arc<ServiceManager>>) -> Self {
        Self { manager, ..Self::default() }
    }

    /// Registers a socket that is in the store already.
    pub(crate) fn add(&mut self, name: StoredName) {
        self.stored.insert(name.inode, name);
    }

    pub(crate) fn name(&self, inode: u64) -> Option<StoredName> {
        self.stored.get(&inode).copied()
    }

    /// Whether there is a store, so that held sockets outlive the run.
    pub(crate) fn exists(&self) -> bool {
        self.manager.is_some()
    }

    /// Asks the manager to close a socket. `true` once it has closed it; until then the socket keeps
    /// its place in its group.
    pub(crate) fn close(&mut self, inode: u64) -> bool {
        if let Some(barrier) = self.leaving.get(&inode) {
            return barrier.is_passed();
        }
        if !self.stored.contains_key(&inode) {
            return true;
        }
        self.remove(inode);
        match self.manager.as_ref().map(|manager| manager.barrier()) {
            Some(Ok(barrier)) => {
                let passed = barrier.is_passed();
                self.leaving.insert(inode, barrier);
                passed
            }
            // At the descriptor limit there is no barrier; the manager has closed it by the next call.
            _ => false,
        }
    }

    /// The sockets that the manager was asked to close, and that are still in their groups.
    pub(super) fn leaving(&self) -> Vec<u64> {
        self.leaving.keys().copied().collect()
    }

    /// Sends queued messages. Returns `true` once the manager's socket has taken all of them.
    pub(super) fn flush(&self) -> bool {
        self.manager.as_ref().is_none_or(|manager| manager.flush())
    }

    /// Removes a socket from the store.
    pub(crate) fn remove(&mut self, inode: u64) {
        self.leaving.remove(&inode);
        if let (Some(name), Some(manager)) = (self.stored.remove(&inode), &self.manager) {
            manager.send(systemd::remove_message(name), None);
        }
    }

    pub(crate) fn clear(&mut self) {
        let all: Vec<u64> = self.stored.keys().copied().collect();
        all.into_iter().for_each(|inode| self.remove(inode));
    }

    /// Stores the held sockets of an address, each under its current name: the name contains the
    /// socket's index in its group.
    pub(super) fn update(&mut self, slots: &Slots, steering: &Steering, address: &Address) {
        let Some(manager) = self.manager.clone() else { return };
        for inode in slots.members(address).into_keys() {
            // A socket unit stores its sockets itself.
            if slots.outlives_run(inode) {
                continue;
            }
            let Some(socket) = slots.sockets.get(&inode) else { continue };
            // A socket that does not listen yet has no queue to keep.
            if address.protocol == Protocol::Tcp && socket.is_listening() != Ok(true) {
                continue;
            }
            let group = steering.groups.get(address);
            let ordered = group.filter(|_| !steering.unordered.contains(address));
            let index = ordered.and_then(|group| group.index(&inode));
            let name = StoredName { inode, index };
            let is_free = || slots.held.unused().any(|(free, _)| free == inode);
            if self.leaving.contains_key(&inode) && is_free() {
                continue;
            }
            self.leaving.remove(&inode);
            match self.stored.insert(inode, name) {
                Some(before) if before == name => continue,
                // The manager ignores a socket that it has already, so the old name goes first.
                Some(before) => manager.send(systemd::remove_message(before), None),
                None => {}
            }
            manager.send(systemd::store_message(name), Some(socket.as_fd()));
        }
    }
}
