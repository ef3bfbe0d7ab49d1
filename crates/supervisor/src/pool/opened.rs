//! The sockets that workers have open, and those that they have closed again.
//!
//! As long as the pool has a duplicate, a socket that its worker has closed stays open. Sockets on
//! addresses that are not the run's yet are therefore inspected often, until the worker is ready.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use sameport_policy::lifecycle::{InstanceId, OpenedSocket};
use sameport_policy::model::{Address, Protocol};
use sameport_policy::readiness::listen_key;
use sameport_sys::inspect;
use sameport_sys::socket::WorkerSocket;

use super::opened_fd::OpenedFd;
use super::slots::Slots;
use super::worker_view::BlockedCall;
use super::{PoolState, SocketPool};

/// Interval of the inspections while a worker opens sockets, and otherwise.
const OFTEN: Duration = Duration::from_millis(25);
const SELDOM: Duration = Duration::from_millis(250);

/// Time after which a socket is inspected less often.
const NEW: Duration = Duration::from_secs(1);

impl PoolState {
    /// What the policy must know about a socket that a worker opens.
    fn opened_socket(&self, start: InstanceId, address: &Address) -> OpenedSocket {
        let ready_at = self.workers.get(&start).and_then(|worker| worker.ready_at);
        // Its own socket does not make a port known.
        let is_known =
            |(_, held): &(u64, &Address)| held.port() == address.port() && *held != address;
        OpenedSocket {
            protocol: address.protocol,
            is_expected: self.expected.contains(&listen_key(address)),
            has_known_port: self.slots.held.used_by(start).any(|held| is_known(&held)),
            ready_for: ready_at.map(|at| at.elapsed()),
            opened: self.slots.opened.get(&start).map_or(0, BTreeMap::len),
        }
    }

    /// Whether the pool holds a socket that this worker opens.
    pub(super) fn is_to_hold(&self, start: InstanceId, address: &Address) -> bool {
        self.opened_socket(start, address).is_held()
    }

    /// Records the descriptor of a socket that a worker has opened. Gives whether the address counts at
    /// once.
    pub(super) fn record_opened(
        &mut self,
        start: InstanceId,
        inode: u64,
        address: &Address,
        caller: BlockedCall<'_>,
    ) -> bool {
        let opened = self.opened_socket(start, address);
        let is_reported = opened.counts_after().is_zero();
        let opened = OpenedFd {
            tid: caller.tid,
            fd: caller.fd,
            at: Instant::now(),
            is_known: opened.is_expected,
            is_reported,
            seems_closed: false,
        };
        self.slots.opened.entry(start).or_default().insert(inode, opened);
        is_reported
    }
}

impl Slots {
    /// Whether this worker counts as listening with this socket.
    pub(super) fn counts(&self, inode: u64, start: InstanceId) -> bool {
        let opened = self.opened.get(&start).and_then(|opened| opened.get(&inode));
        opened.is_none_or(|opened| opened.is_reported)
    }

    /// Removes a user that closed the socket.
    pub(super) fn forget(&mut self, inode: u64, start: InstanceId) {
        self.held.remove_user(inode, start);
        if let Some(opened) = self.opened.get_mut(&start) {
            opened.remove(&inode);
        }
    }
}

impl SocketPool {
    /// Sets the addresses that the run must listen on.
    pub(crate) fn expect(&self, addresses: BTreeSet<String>) {
        let mut state = self.state();
        let PoolState { expected, slots, .. } = &mut *state;
        *expected = addresses;
        let Slots { held, opened, .. } = slots;
        for (inode, fd) in opened.values_mut().flatten() {
            fd.is_known |=
                held.address(*inode).is_some_and(|at| expected.contains(&listen_key(at)));
        }
    }

    /// When to call [`Self::find_closed_again`] next. `None`: every address is the run's.
    pub(crate) fn next_inspection(&self) -> Option<Duration> {
        let state = self.state();
        let opened = state.slots.opened.values().flat_map(BTreeMap::values);
        let newest = opened.filter(|opened| !opened.is_known).map(|opened| opened.at).max()?;
        Some(if newest.elapsed() < NEW { OFTEN } else { SELDOM })
    }

    /// Closes sockets that their worker has closed again, on addresses that are not the run's, and gives
    /// their addresses. Two inspections must agree: a list of processes can miss one.
    ///
    /// `processes_of`: the processes of a worker.
    pub(crate) fn find_closed_again(
        &self,
        mut processes_of: impl FnMut(InstanceId) -> Vec<i32>,
    ) -> Vec<(InstanceId, Address)> {
        let mut closed = Vec::new();
        for (start, opened) in self.unknown() {
            let moved = opened.iter().filter(|(inode, fd)| !fd.refers_to(*inode));
            let moved: HashSet<u64> = moved.map(|(inode, _)| *inode).collect();
            let found = match moved.is_empty() {
                true => Some(HashSet::new()),
                false => inspect::open_in(&moved, &processes_of(start)),
            };
            let is_open = |inode| {
                !moved.contains(&inode) || found.as_ref().is_none_or(|it| it.contains(&inode))
            };
            let mut state = self.state();
            for (inode, fd) in opened {
                closed.extend(state.inspected(start, inode, fd, is_open(inode)));
            }
        }
        closed
    }

    /// The sockets on addresses that are not the run's.
    fn unknown(&self) -> Vec<(InstanceId, Vec<(u64, OpenedFd)>)> {
        let state = self.state();
        let unknown = |(start, opened): (&InstanceId, &BTreeMap<u64, OpenedFd>)| {
            let unknown = opened.iter().filter(|(_, fd)| !fd.is_known);
            (*start, unknown.map(|(inode, fd)| (*inode, *fd)).collect::<Vec<_>>())
        };
        state.slots.opened.iter().map(unknown).filter(|(_, opened)| !opened.is_empty()).collect()
    }
}

impl PoolState {
    fn set_reported(&mut self, start: InstanceId, inode: u64) {
        let opened = self.slots.opened.get_mut(&start);
        if let Some(opened) = opened.and_then(|opened| opened.get_mut(&inode)) {
            opened.is_reported = true;
        }
    }

    /// Takes the result of an inspection. Gives the address if the worker has no socket there any more.
    fn inspected(
        &mut self,
        start: InstanceId,
        inode: u64,
        fd: OpenedFd,
        is_open: bool,
    ) -> Option<(InstanceId, Address)> {
        let address = self.slots.held.address(inode)?.clone();
        let opened = self.slots.opened.get_mut(&start)?.get_mut(&inode)?;
        // A connected datagram socket is a client's, or a session's.
        let is_client = address.protocol == Protocol::Udp
            && self.slots.sockets.get(&inode).is_some_and(WorkerSocket::is_connected);
        if is_open && !is_client {
            opened.seems_closed = false;
            let counts_after = self.opened_socket(start, &address).counts_after();
            if !fd.is_reported && fd.at.elapsed() >= counts_after {
                self.set_reported(start, inode);
                self.listens.push((start, address));
            }
            return None;
        }
        if !is_client && !std::mem::replace(&mut opened.seems_closed, true) {
            return None;
        }
        self.slots.forget(inode, start);
        if self.slots.held.users(inode).is_empty() {
            self.release(inode);
        }
        if self.slots.held.used_by(start).any(|(_, at)| *at == address) {
            return None;
        }
        self.listens.retain(|(of, at)| *of != start || *at != address);
        Some((start, address))
    }
}
