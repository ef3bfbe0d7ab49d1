//! The held sockets of a named run. They outlive the workers, answer the workers' binds, and are
//! steered so that only ready workers get new connections.
//!
//! The threads that answer the workers and the supervisor's thread share the pool.

mod adopt;
mod canary;
mod closed;
mod extended;
mod gates;
mod handover;
pub(crate) mod inherited;
mod opened;
mod opened_fd;
mod port_traffic;
mod prepared;
mod repair;
mod replacement;
mod settle;
mod slots;
mod status;
mod steering;
mod store;
mod takeover;
mod traffic;
pub(crate) mod withdrawn;
mod worker_view;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sameport_policy::lifecycle::{InstanceId, QueueMode};
use sameport_policy::model::{Address, Protocol};
use sameport_sys::systemd::notify::ServiceManager;
use tokio::sync::Notify;

use crate::processes::ProcessTable;
use crate::traffic::RunTraffic;
pub(crate) use port_traffic::WorkerLoads;
pub(crate) use prepared::LoadProgress;
use slots::Slots;
pub(crate) use status::AddressStatus;
use steering::Steering;
use store::ManagerStore;
pub(crate) use worker_view::{BindResult, BlockedCall, WorkerSockets};

/// The held sockets of one run.
#[derive(Debug, Clone)]
pub(crate) struct SocketPool(Arc<PoolShared>);

#[derive(Debug)]
struct PoolShared {
    state: Mutex<PoolState>,
    processes: ProcessTable,
    changed: Notify,
    /// Held while programs are loaded, without the lock of the state.
    preparing: Mutex<()>,
}

#[derive(Debug)]
struct PoolState {
    queue: QueueMode,
    slots: Slots,
    steering: Steering,
    store: ManagerStore,
    workers: BTreeMap<InstanceId, WorkerRecord>,
    /// Addresses that workers listen on since the last [`SocketPool::take_listens`].
    listens: Vec<(InstanceId, Address)>,
    /// Addresses that the run must listen on, as [`sameport_policy::readiness::listen_key`] writes them.
    expected: BTreeSet<String>,
    /// Sockets with a port of the kernel's choice, which are not held.
    ephemeral: BTreeSet<u64>,
    /// Addresses where a held socket could not replace the worker's, with the reason.
    not_replaced: BTreeMap<Address, String>,
    /// Rounds for which an unused socket has had connections in its queue.
    abandoned: BTreeMap<u64, u32>,
    /// Whether the run stops.
    closing: bool,
}

/// A worker that runs.
#[derive(Debug, Default)]
struct WorkerRecord {
    /// The worker that it replaces.
    replaces: Option<InstanceId>,
    /// Whether a process of it has restricted itself (Landlock).
    restricted: bool,
    /// Whether it was told to end.
    terminating: bool,
    /// Whether it ends without having served: [`SocketPool::withdraw`].
    withdrawn: bool,
    /// When it became ready.
    ready_at: Option<Instant>,
    /// Addresses that it listens on with sockets that are not held.
    not_held: BTreeSet<Address>,
}

impl SocketPool {
    pub(crate) fn new(
        queue: QueueMode,
        manager: Option<Arc<ServiceManager>>,
        traffic: RunTraffic,
    ) -> Self {
        let state = PoolState {
            queue,
            slots: Slots::default(),
            steering: Steering::new(traffic),
            store: ManagerStore::new(manager),
            workers: BTreeMap::new(),
            listens: Vec::new(),
            expected: BTreeSet::new(),
            ephemeral: BTreeSet::new(),
            not_replaced: BTreeMap::new(),
            abandoned: BTreeMap::new(),
            closing: false,
        };
        Self(Arc::new(PoolShared {
            state: Mutex::new(state),
            processes: ProcessTable::default(),
            changed: Notify::new(),
            preparing: Mutex::new(()),
        }))
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The processes of the workers.
    pub(crate) fn processes(&self) -> &ProcessTable {
        &self.0.processes
    }

    /// Adds a worker, before it starts.
    pub(crate) fn begin(&self, start: InstanceId, ordinal: u16, replaces: Option<InstanceId>) {
        let record = WorkerRecord { replaces, ..WorkerRecord::default() };
        let mut state = self.state();
        state.cancel_withdrawal();
        state.steering.traffic.worker_begins(start, ordinal);
        state.workers.insert(start, record);
    }

    /// Adds the first process of a worker.
    pub(crate) fn started(&self, start: InstanceId, pid: i32) {
        self.state().steering.traffic.worker_runs(start, pid);
        self.processes().started(start, pid);
    }

    /// Removes a worker. Its sockets stay for the next one.
    pub(crate) fn ended(&self, start: InstanceId) {
        let mut state = self.state();
        state.workers.remove(&start);
        state.steering.traffic.worker_ended(start);
        state.slots.ended(start);
        state.release_withdrawn();
        if !state.store.exists() {
            let PoolState { slots, steering, .. } = &mut *state;
            steering.close_left(slots);
        }
    }

    /// Marks a worker that has restricted itself (Landlock).
    pub(crate) fn restrict(&self, start: InstanceId) {
        self.state().workers.entry(start).or_default().restricted = true;
    }

    /// Whether a worker has restricted itself.
    pub(crate) fn is_restricted(&self, start: InstanceId) -> bool {
        self.state().workers.get(&start).is_some_and(|worker| worker.restricted)
    }

    /// Marks a worker that was told to end.
    pub(crate) fn terminating(&self, start: InstanceId) {
        self.state().workers.entry(start).or_default().terminating = true;
    }

    /// Sets the addresses that a worker listens on with sockets that are not held. Gives those that it
    /// has left.
    pub(crate) fn set_not_held(
        &self,
        start: InstanceId,
        addresses: BTreeSet<Address>,
    ) -> Vec<Address> {
        let mut state = self.state();
        let known = &mut state.workers.entry(start).or_default().not_held;
        let before = std::mem::replace(known, addresses.clone());
        let new = addresses.difference(&before).map(|address| (start, address.clone()));
        state.listens.extend(new);
        before.difference(&addresses).cloned().collect()
    }

    /// Gives new connections to these workers only.
    pub(crate) fn steer(&self, live: BTreeSet<InstanceId>) {
        let mut state = self.state();
        state.release_withdrawn();
        let PoolState { slots, steering, workers, .. } = &mut *state;
        for start in &live {
            workers.entry(*start).or_default().ready_at.get_or_insert_with(Instant::now);
        }
        slots.live = live;
        steering.steer_all(slots);
    }

    /// Gives new connections to no worker: the run stops.
    pub(crate) fn close(&self) {
        let PoolState { slots, steering, closing, .. } = &mut *self.state();
        *closing = true;
        steering.close_all(slots);
    }

    /// Whether new clients wait for the end of sockets: others are in the groups of a run that stops, or a worker is
    /// given up.
    pub(crate) fn drops_new_clients(&self) -> bool {
        let steering = &self.state().steering;
        !steering.leaving.is_empty() || !steering.withdrawn.is_empty()
    }

    /// Lets new connections queue for the next run, if the service manager keeps the sockets.
    pub(crate) fn reopen_for_next_run(&self) {
        let PoolState { slots, steering, store, .. } = &mut *self.state();
        if store.exists() {
            steering.reopen_all(slots);
        }
    }

    /// Removes all sockets from the service manager's store.
    pub(crate) fn clear_store(&self) {
        self.state().store.clear();
    }

    /// Waits until a worker listens on another address.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Takes the addresses that workers listen on since the last call.
    pub(crate) fn take_listens(&self) -> Vec<(InstanceId, Address)> {
        std::mem::take(&mut self.state().listens)
    }

    fn listens_on(&self, state: &mut PoolState, start: InstanceId, address: &Address) {
        state.listens.push((start, address.clone()));
        self.0.changed.notify_one();
    }

    /// The ports of the TCP queues of this worker alone, if no connection waits in them; `None` if one
    /// does.
    pub(crate) fn ports_without_queue(&self, start: InstanceId) -> Option<BTreeSet<u16>> {
        let state = self.state();
        let slots = &state.slots;
        let mut ports = BTreeSet::new();
        for (inode, address) in slots.held.used_by(start) {
            if address.protocol != Protocol::Tcp
                || slots.held.is_used_by_another(inode, start)
                || slots.outlives_run(inode)
            {
                continue;
            }
            if slots.waiting(inode) > 0 {
                return None;
            }
            ports.insert(address.port());
        }
        Some(ports)
    }

    /// Number of connections in the accept queues of this worker.
    pub(crate) fn waiting(&self, start: InstanceId) -> u32 {
        let state = self.state();
        state.slots.held.used_by(start).map(|(inode, _)| state.slots.waiting(inode)).sum()
    }

    /// Closes unused sockets whose accept queue is empty; keeps the last one on an expected address.
    /// `rounds`: the rounds since the last call.
    ///
    /// The service manager closes one socket of an address at a time. If the supervisor is killed
    /// meanwhile, the names of the others still tell the order of the group.
    pub(crate) fn release_spare(&self, rounds: u32, is_expected: impl Fn(&Address) -> bool) {
        /// After this many rounds a queue that no worker serves is closed all the same: a reset tells
        /// its clients to try again.
        const ROUNDS: u32 = 5;
        let mut state = self.state();
        let free: BTreeMap<u64, Address> = state.slots.held.unused().collect();
        state.abandoned.retain(|inode, _| free.contains_key(inode));
        for (inode, address) in free {
            let is_last = !state.slots.members(&address).values().any(|live| *live);
            if state.slots.is_shared(inode) || is_last && is_expected(&address) {
                continue;
            }
            if state.slots.waiting(inode) > 0 {
                let abandoned = state.abandoned.entry(inode).or_default();
                *abandoned += rounds;
                if *abandoned < ROUNDS {
                    continue;
                }
            }
            let is_of_group = |other: &u64| state.slots.held.address(*other) == Some(&address);
            if state.store.leaving().iter().any(|other| *other != inode && is_of_group(other)) {
                continue;
            }
            if state.store.name(inode).is_some() {
                // The manager closes the socket later, perhaps after the end of this process. A selected
                // index beyond the group would then give clients to every member, also to unused ones.
                let PoolState { slots, steering, .. } = &mut *state;
                let _ = steering.prepare_removal(slots, inode);
            }
            if state.store.close(inode) {
                state.release(inode);
            }
        }
    }

    /// The sockets that the service manager was asked to close.
    pub(crate) fn leaving(&self) -> Vec<u64> {
        self.state().store.leaving()
    }

    /// Whether this socket is held.
    pub(crate) fn holds(&self, inode: u64) -> bool {
        self.state().slots.sockets.contains_key(&inode)
    }

    /// Inodes of the sockets that this worker uses and no other.
    pub(crate) fn own(&self, start: InstanceId) -> HashSet<u64> {
        self.state().slots.own(start)
    }

    /// Whether the pool holds the socket with this inode.
    pub(crate) fn is_held(&self, inode: u64) -> bool {
        self.state().slots.held.holds(inode)
    }

    /// The addresses that a worker listens on, without those of datagram sockets that may be for a
    /// query.
    pub(crate) fn addresses(&self, start: InstanceId) -> BTreeSet<Address> {
        let state = self.state();
        let not_held = state.workers.get(&start).into_iter().flat_map(|worker| &worker.not_held);
        let held = state.slots.held.used_by(start);
        let held = held.filter(|(inode, _)| state.slots.counts(*inode, start));
        held.map(|(_, address)| address).chain(not_held).cloned().collect()
    }

    /// Steers connections from a client port to one worker, until the result is dropped.
    pub(crate) fn steer_probe(
        &self,
        start: InstanceId,
        address: &Address,
        from: u16,
    ) -> ProbeSteering {
        let PoolState { slots, steering, .. } = &mut *self.state();
        let inode =
            slots.held.used_by(start).find(|(_, it)| *it == address).map(|(inode, _)| inode);
        if let Some(inode) = inode {
            steering.probes.insert(from, (address.clone(), inode));
            steering.steer(slots, address);
        }
        ProbeSteering { pool: self.clone(), from }
    }
}

impl PoolState {
    fn update_store(&mut self, address: &Address) {
        self.store.update(&self.slots, &self.steering, address);
    }

    /// Closes a held socket, and steers the other members of its group.
    fn release(&mut self, inode: u64) {
        if let Some(address) = self.remove(inode) {
            self.steering.steer(&self.slots, &address);
        }
    }

    /// Closes a held socket. The program of its group is right before the socket leaves the group and
    /// afterwards. Gives the address of the group.
    fn remove(&mut self, inode: u64) -> Option<Address> {
        let address = self.steering.prepare_removal(&self.slots, inode);
        self.store.remove(inode);
        self.slots.remove(inode);
        let address = address?;
        self.steering.remove(&address, inode);
        self.update_store(&address);
        Some(address)
    }
}

/// A client port whose connections go to one worker.
pub(crate) struct ProbeSteering {
    pool: SocketPool,
    from: u16,
}

impl Drop for ProbeSteering {
    fn drop(&mut self) {
        let PoolState { slots, steering, .. } = &mut *self.pool.state();
        if let Some((address, _)) = steering.probes.remove(&self.from) {
            steering.steer(slots, &address);
        }
    }
}
