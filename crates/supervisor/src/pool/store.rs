//! Held sockets that the service manager keeps for us as well (FDSTORE), so that they outlive us.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use sameport_policy::model::{Address, Protocol};
use sameport_policy::systemd;
use sameport_policy::systemd::StoredName;
use sameport_sys::systemd::notify::{NotifyBarrier, ServiceManager};

use super::PoolState;

/// What the manager keeps, and under which names.
#[derive(Debug, Default)]
pub(crate) struct ManagerStore {
    service: Option<Arc<ServiceManager>>,
    kept: BTreeMap<u64, StoredName>,
    /// Sockets that it was told to close, and may have open still.
    leaving: BTreeMap<u64, NotifyBarrier>,
}

impl ManagerStore {
    pub(crate) fn of(service: Option<Arc<ServiceManager>>) -> Self {
        Self { service, ..Self::default() }
    }

    /// It keeps this one already.
    pub(crate) fn has(&mut self, name: StoredName) {
        self.kept.insert(name.inode, name);
    }

    /// Under which name it keeps this one.
    pub(crate) fn name(&self, inode: u64) -> Option<StoredName> {
        self.kept.get(&inode).copied()
    }

    /// Whether what we hold outlives us.
    pub(crate) fn is_there(&self) -> bool {
        self.service.is_some()
    }

    /// Has the manager close a socket; whether it has. Until then the socket is there, whatever we
    /// close ourselves, and has its place in its group.
    pub(crate) fn let_go(&mut self, inode: u64) -> bool {
        if let Some(barrier) = self.leaving.get(&inode) {
            return barrier.is_passed();
        }
        if !self.kept.contains_key(&inode) {
            return true;
        }
        self.forget(inode);
        match self.service.as_ref().map(|service| service.barrier()) {
            Some(Ok(barrier)) => {
                let passed = barrier.is_passed();
                self.leaving.insert(inode, barrier);
                passed
            }
            // Without descriptors to spare, it has closed it by the next time.
            _ => false,
        }
    }

    /// It is not to keep this one any longer.
    pub(crate) fn forget(&mut self, inode: u64) {
        self.leaving.remove(&inode);
        if let (Some(name), Some(service)) = (self.kept.remove(&inode), &self.service) {
            service.send(systemd::remove_message(name), None);
        }
    }

    pub(crate) fn forget_all(&mut self) {
        let all: Vec<u64> = self.kept.keys().copied().collect();
        all.into_iter().for_each(|inode| self.forget(inode));
    }
}

impl PoolState {
    /// Has the manager keep what we hold on this address, each under the name that is right now.
    pub(crate) fn tell_store(&mut self, address: &Address) {
        let Some(service) = self.store.service.clone() else { return };
        for inode in self.slots.on_address(address, &self.live).into_keys() {
            // A socket unit's is kept by its unit.
            if self.outlives_us(inode) {
                continue;
            }
            let Some(socket) = self.sockets.get(&inode) else { continue };
            // One that does not listen yet has nobody waiting.
            if address.protocol == Protocol::Tcp && socket.is_listening() != Ok(true) {
                continue;
            }
            let ordered = self.groups.get(address).filter(|_| !self.unordered.contains(address));
            let index = ordered.and_then(|group| group.index(&inode));
            let name = StoredName { inode, index };
            // It is on its way out, unless somebody has taken it meanwhile.
            if self.store.leaving.contains_key(&inode)
                && self.slots.unused().any(|(free, _)| free == inode)
            {
                continue;
            }
            self.store.leaving.remove(&inode);
            match self.store.kept.insert(inode, name) {
                Some(before) if before == name => continue,
                // What is there is not stored again, whatever its name.
                Some(before) => service.send(systemd::remove_message(before), None),
                None => {}
            }
            service.send(systemd::store_message(name), Some(socket.as_fd()));
        }
    }
}
