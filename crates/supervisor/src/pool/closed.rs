//! Sockets that a worker closed: the pool has a duplicate, so the kernel does not report it.
//!
//! Descriptors of workers are read without the lock of the pool: a process with many descriptors
//! delays nobody but its own worker.

use std::collections::{BTreeSet, HashSet};

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::model::Address;
use sameport_sys::inspect;

use super::SocketPool;
use super::opened_fd::OpenedFd;

impl SocketPool {
    /// Marks the sockets that a worker closed as unused. Gives the addresses that it left. `pids` must
    /// contain the worker's first process.
    ///
    /// A process that starts or ends meanwhile can be missed, so two inspections must agree.
    pub(crate) fn find_closed(&self, start: InstanceId, pids: &[i32]) -> BTreeSet<Address> {
        let before = self.addresses(start);
        let used: HashSet<u64> =
            self.state().slots.held.used_by(start).map(|(inode, _)| inode).collect();
        if used.is_empty() {
            return BTreeSet::new();
        }
        let Some(open) = inspect::open_in(&used, pids) else { return BTreeSet::new() };
        self.state().slots.closed_since(start, &used, &open);
        before.difference(&self.addresses(start)).cloned().collect()
    }

    /// Marks a socket on this address as unused if the worker closed it, so that its next bind gets
    /// the socket back. The thread `tid` waits in `bind` or `listen`.
    ///
    /// Reads one descriptor for each socket; those of all processes of the worker only if the process
    /// that opened the socket has ended, and may have passed it on.
    pub(super) fn find_rebound(&self, start: InstanceId, tid: i32, address: &Address) {
        let used: Vec<(u64, Option<OpenedFd>)> = {
            let state = self.state();
            let opened = state.slots.opened.get(&start);
            let opened = |inode| opened.and_then(|opened| opened.get(&inode).copied());
            let used = state.slots.held.used_by(start).filter(|(_, at)| *at == address);
            used.map(|(inode, _)| (inode, opened(inode))).collect()
        };
        let mut unclear = HashSet::new();
        for (inode, opened) in used {
            match opened {
                Some(opened) if opened.refers_to(inode) => {}
                Some(opened) if opened.is_closed_in_process(inode) => {
                    self.state().slots.forget(inode, start);
                }
                _ => drop(unclear.insert(inode)),
            }
        }
        if unclear.is_empty() {
            return;
        }
        let mut pids = self.processes().of(start, &self.own(start));
        pids.push(tid);
        // Processes that cannot be read count as having the sockets open.
        let Some(open) = inspect::open_in(&unclear, &pids) else { return };
        let mut state = self.state();
        for inode in unclear.difference(&open) {
            state.slots.forget(*inode, start);
        }
    }
}
