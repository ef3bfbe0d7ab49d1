//! Held sockets that are older than the run's workers.
//!
//! One that workers share from the start (of a socket unit, or passed to them) is the only one on its
//! address: every bind there is answered with it. One that the service manager has kept for us is
//! free, for the next worker that asks for its address.

use std::collections::{BTreeMap, BTreeSet};

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::model::{Address, Protocol};
use sameport_policy::systemd;
use sameport_policy::systemd::StoredName;
use sameport_sys::Errno;
use sameport_sys::socket::WorkerSocket;

use super::inherited::{InheritedSocket, Origin};
use super::{BindResult, PendingBind, PoolState, SocketPool};
use crate::handover::SocketHistory;

/// A socket that all workers share.
#[derive(Debug, Clone)]
pub(crate) struct SharedListener {
    pub(crate) address: Address,
    /// Workers find it open.
    pub(crate) passed: bool,
    /// Somebody else has it open too, so that it outlives us.
    pub(crate) outlives_us: bool,
}

/// Why the kernel cannot be told who of a group gets new connections.
const UNKNOWN_ORDER: &str =
    "the service manager has kept its sockets, and their order in the kernel is not known";

const ONE_FOR_ALL: &str = "all workers accept from the one socket that a socket unit has opened";

impl SocketPool {
    /// Takes sockets over, for so many workers.
    pub(crate) fn adopt(&self, all: &[InheritedSocket], copies: u16) -> Result<(), Errno> {
        let mut state = self.state();
        let mut kept: BTreeMap<Address, Vec<StoredName>> = BTreeMap::new();
        for InheritedSocket { socket, address, origin: from, passed } in all {
            let inode = socket.inode();
            let one_for_all = *passed || *from == Origin::Unit;
            if one_for_all {
                let outlives_us = *from == Origin::Unit;
                let common =
                    SharedListener { address: address.clone(), passed: *passed, outlives_us };
                state.common.insert(inode, common);
            }
            match from {
                Origin::Unit => {
                    state.not_steered.insert(address.clone(), ONE_FOR_ALL.into());
                }
                Origin::Stored(name) => {
                    kept.entry(address.clone()).or_default().push(*name);
                    state.store.has(*name);
                }
                Origin::Opened => {
                    kept.entry(address.clone())
                        .or_default()
                        .push(StoredName { inode, index: None });
                }
            }
            if !matches!(from, Origin::Unit) && socket.is_listening() == Ok(true) {
                // Nobody may have accepted for a while. With less room, it serves those who fit.
                let _ = socket.raise_backlog();
            }
            state.slots.hold(inode, address, &[]);
            state.sockets.insert(inode, socket.duplicate()?);
        }
        for (address, names) in kept {
            if address.protocol == Protocol::Tcp {
                state.put_in_order(&address, &names);
                state.choose_first(&address, copies);
                state.steer(&address);
            }
            state.tell_store(&address);
        }
        Ok(())
    }

    /// What a worker is to find open. It uses them from its start.
    pub(crate) fn pass_to(&self, start: InstanceId) -> Result<Vec<WorkerSocket>, Errno> {
        let mut state = self.state();
        let passed = state.common.iter().filter(|(_, common)| common.passed);
        let passed: Vec<(u64, Address)> =
            passed.map(|(inode, common)| (*inode, common.address.clone())).collect();
        let mut sockets = Vec::new();
        for (inode, address) in passed {
            let Some(socket) = state.sockets.get(&inode) else { continue };
            sockets.push(socket.duplicate()?);
            state.slots.add_user(inode, &address, start);
            state.listens.push((start, address));
            self.0.changed.notify_one();
        }
        Ok(sockets)
    }
}

impl PoolState {
    /// What another program in our place is to know of a socket that is older than its workers.
    pub(crate) fn older(&self, inode: u64, address: &Address) -> SocketHistory {
        let common = self.common.get(&inode);
        SocketHistory {
            common: common.map(|common| (common.passed, common.outlives_us)),
            kept: self.store.name(inode).map(|name| name.to_string()),
            unordered: self.unordered.contains(address),
        }
    }

    /// What a program before us knew of it.
    pub(crate) fn restore_older(&mut self, inode: u64, address: &Address, older: &SocketHistory) {
        if let Some((passed, outlives_us)) = older.common {
            let common = SharedListener { address: address.clone(), passed, outlives_us };
            self.common.insert(inode, common);
            if outlives_us {
                self.not_steered.insert(address.clone(), ONE_FOR_ALL.into());
            }
        }
        if let Some(name) = older.kept.as_ref().and_then(|name| name.parse().ok()) {
            self.store.has(name);
        }
        if older.unordered {
            self.unordered.insert(address.clone());
        }
    }

    /// Members that were there before us, in the kernel's order if that is certain.
    fn put_in_order(&mut self, address: &Address, names: &[StoredName]) {
        let members: Vec<u64> = names.iter().map(|name| name.inode).collect();
        let order = systemd::group_order(names);
        if order.is_none() {
            self.unordered.insert(address.clone());
            self.not_steered.insert(address.clone(), UNKNOWN_ORDER.into());
        }
        let group = self.groups.entry(address.clone()).or_default();
        order.unwrap_or(members).into_iter().for_each(|inode| group.join(inode));
    }

    /// Where there are more sockets than workers, because we ended in the middle of a restart, those
    /// who come before the first worker is ready go to the sockets that workers get first.
    fn choose_first(&mut self, address: &Address, copies: u16) {
        let mut all: Vec<u64> = self.slots.on_address(address, &self.live).into_keys().collect();
        all.sort_by_key(|inode| !self.waits(*inode));
        let waited_for = all.iter().filter(|inode| self.waits(**inode)).count();
        all.truncate(waited_for.max(copies.into()));
        self.served.insert(address.clone(), all.into_iter().collect());
    }

    fn waits(&self, inode: u64) -> bool {
        let queue = self.sockets.get(&inode).map(WorkerSocket::accept_queue);
        matches!(queue, Some(Ok(queue)) if queue.waiting > 0)
    }

    /// Which members get new connections: those of live workers. Where none is, those that had some
    /// last.
    pub(crate) fn takers(&mut self, address: &Address, on: &BTreeMap<u64, bool>) -> BTreeSet<u64> {
        let live: BTreeSet<u64> =
            on.iter().filter(|(_, live)| **live).map(|(inode, _)| *inode).collect();
        if !live.is_empty() {
            self.served.insert(address.clone(), live.clone());
            return live;
        }
        let served = self.served.get(address).into_iter().flatten().copied();
        let served: BTreeSet<u64> = served.filter(|inode| on.contains_key(inode)).collect();
        if served.is_empty() { on.keys().copied().collect() } else { served }
    }

    /// A socket of this address that nobody uses: one in which somebody waits before all others, then
    /// one that gets connections.
    pub(crate) fn left_behind(&self, address: &Address) -> Option<u64> {
        let served = |inode: u64| self.served.get(address).is_some_and(|it| it.contains(&inode));
        let free = self.slots.unused().filter(|(_, at)| at == address).map(|(inode, _)| inode);
        free.min_by_key(|inode| (!self.waits(*inode), !served(*inode), *inode))
    }

    /// Why members of this group cannot be told apart, if it is because they are older than we are.
    pub(crate) fn is_unordered(&self, address: &Address) -> Option<String> {
        self.unordered.contains(address).then(|| UNKNOWN_ORDER.into())
    }

    /// The socket of this address that all workers share, if there is one.
    pub(crate) fn common_on(&self, address: &Address) -> Option<u64> {
        let on = |common: &SharedListener| common.address == *address;
        self.common.iter().find(|(_, common)| on(common)).map(|(inode, _)| *inode)
    }

    pub(crate) fn is_common(&self, inode: u64) -> bool {
        self.common.contains_key(&inode)
    }

    /// Whether what waits in it can wait for somebody after us.
    pub(crate) fn outlives_us(&self, inode: u64) -> bool {
        self.common.get(&inode).is_some_and(|common| common.outlives_us)
    }

    /// Answers a bind with the socket that all share. Whoever gave it to the run gave it to every
    /// worker, whatever it may bind itself.
    pub(crate) fn bind_common(
        &mut self,
        inode: u64,
        start: InstanceId,
        caller: PendingBind<'_>,
        socket: &WorkerSocket,
        address: &Address,
    ) -> Option<BindResult> {
        match self.put(inode, start, caller, socket) {
            Ok(()) => {
                self.not_put.remove(address);
                self.slots.add_user(inode, address, start);
                Some(BindResult::Replaced)
            }
            Err(why) => {
                self.not_put.insert(address.clone(), why);
                None
            }
        }
    }
}

/// A `listen` on the socket that all share: others rely on the room that it has.
pub(crate) fn listen_common(socket: &WorkerSocket, backlog: i32) -> Result<(), Errno> {
    let wanted = u32::try_from(backlog).unwrap_or(u32::MAX);
    match socket.accept_queue() {
        Ok(queue) if queue.limit >= wanted => Ok(()),
        _ => socket.listen(backlog),
    }
}
