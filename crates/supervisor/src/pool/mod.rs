//! The held sockets of a named run: its workers are answered with them, and the kernel is told who of
//! a group gets new connections.
//!
//! The thread that answers the workers and the supervisor both come here, one at a time.

pub(crate) mod handover;
pub(crate) mod inherited;
pub(crate) mod shared_listener;
pub(crate) mod steering;
pub(crate) mod store;
pub(crate) mod worker_view;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sameport_policy::lifecycle::{HeldSockets, InstanceId, QueueMode};
use sameport_policy::model::{Address, Protocol};
use sameport_policy::traffic::steering::OrderedGroup;
use sameport_sys::netlink;
use sameport_sys::socket::WorkerSocket;
use sameport_sys::systemd::notify::ServiceManager;
use tokio::sync::Notify;

use shared_listener::SharedListener;
use store::ManagerStore;
pub(crate) use worker_view::{BindResult, PendingBind, WorkerSockets};

/// How many sockets with a port of the kernel's choice are remembered. Whatever is forgotten is held
/// needlessly, until its worker ends.
const MOST_LEFT_ALONE: usize = 4096;

/// The held sockets of one run.
#[derive(Debug, Clone)]
pub(crate) struct SocketPool(Arc<PoolShared>);

#[derive(Debug)]
struct PoolShared {
    state: Mutex<PoolState>,
    changed: Notify,
}

#[derive(Debug)]
struct PoolState {
    queue: QueueMode,
    slots: HeldSockets,
    /// Our duplicates, by inode.
    sockets: BTreeMap<u64, WorkerSocket>,
    /// TCP members in the kernel's order.
    groups: BTreeMap<Address, OrderedGroup<u64>>,
    /// Members to which nobody gets through, while the run drains.
    gates: BTreeMap<Address, WorkerSocket>,
    live: BTreeSet<InstanceId>,
    /// Sockets that a look did not find open in the process that uses them.
    seems_closed: BTreeSet<(u64, InstanceId)>,
    /// Sockets for which the kernel picked a port.
    left_alone: BTreeSet<u64>,
    /// Connections from these ports go to these members, whoever else is there.
    aims: BTreeMap<u16, (Address, u64)>,
    /// Processes that run, with the one that each is to replace.
    begun: BTreeMap<InstanceId, Option<InstanceId>>,
    /// What workers listen on since this was last asked.
    listens: Vec<(InstanceId, Address)>,
    /// Why the workers' own sockets on an address could not be replaced by held ones.
    not_put: BTreeMap<Address, String>,
    /// Why the kernel cannot be told who gets new connections.
    not_steered: BTreeMap<Address, String>,
    /// Those that were told to end.
    told: BTreeSet<InstanceId>,
    /// Whether the run is on its way to its end.
    closing: bool,
    /// For how many rounds somebody has waited in a socket that nobody uses.
    stranded: BTreeMap<u64, u32>,
    /// What processes listen on by sockets that are not held.
    unheld: BTreeMap<InstanceId, BTreeSet<Address>>,
    /// Sockets that all workers share, by inode.
    common: BTreeMap<u64, SharedListener>,
    /// Members that got new connections last. While no worker is live they still do: they are the
    /// first that the next ones get.
    served: BTreeMap<Address, BTreeSet<u64>>,
    /// Addresses of groups whose order is not known.
    unordered: BTreeSet<Address>,
    /// What the service manager keeps for us.
    store: ManagerStore,
}

/// One address of the run.
#[derive(Debug)]
pub(crate) struct AddressStatus {
    pub address: Address,
    pub members: usize,
    pub waiting: u32,
    pub limit: u32,
    pub not_held: Option<String>,
    pub not_steered: Option<String>,
    /// No worker uses it.
    pub unused: bool,
}

impl SocketPool {
    pub(crate) fn new(queue: QueueMode, service: Option<Arc<ServiceManager>>) -> Self {
        let state = PoolState {
            queue,
            slots: HeldSockets::default(),
            sockets: BTreeMap::new(),
            groups: BTreeMap::new(),
            gates: BTreeMap::new(),
            live: BTreeSet::new(),
            seems_closed: BTreeSet::new(),
            left_alone: BTreeSet::new(),
            aims: BTreeMap::new(),
            begun: BTreeMap::new(),
            listens: Vec::new(),
            not_put: BTreeMap::new(),
            not_steered: BTreeMap::new(),
            told: BTreeSet::new(),
            closing: false,
            stranded: BTreeMap::new(),
            unheld: BTreeMap::new(),
            common: BTreeMap::new(),
            served: BTreeMap::new(),
            unordered: BTreeSet::new(),
            store: ManagerStore::of(service),
        };
        Self(Arc::new(PoolShared { state: Mutex::new(state), changed: Notify::new() }))
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As the process of this start uses them.
    pub(crate) fn of(&self, start: InstanceId) -> WorkerSockets {
        WorkerSockets { held: self.clone(), start }
    }

    /// A process begins, in this one's place.
    pub(crate) fn begin(&self, start: InstanceId, predecessor: Option<InstanceId>) {
        self.state().begun.insert(start, predecessor);
    }

    /// It has ended. What it leaves behind waits for the next, with room for all who come meanwhile.
    pub(crate) fn ended(&self, start: InstanceId) {
        let mut state = self.state();
        state.begun.remove(&start);
        state.told.remove(&start);
        state.unheld.remove(&start);
        state.seems_closed.retain(|(_, other)| *other != start);
        for inode in state.slots.remove_instance(start) {
            let Some(socket) = state.sockets.get(&inode) else { continue };
            if socket.is_listening() == Ok(true) {
                // With as much room as it had, it still serves those who fit.
                let _ = socket.raise_backlog();
            }
        }
    }

    /// It is told to end: nobody waits for it any more.
    pub(crate) fn told(&self, start: InstanceId) {
        self.state().told.insert(start);
    }

    /// What this process listens on by sockets that are not held.
    pub(crate) fn sees(&self, start: InstanceId, addresses: BTreeSet<Address>) {
        let mut state = self.state();
        let before = state.unheld.insert(start, addresses.clone()).unwrap_or_default();
        let new = addresses.difference(&before).map(|address| (start, address.clone()));
        state.listens.extend(new);
    }

    /// Only these get new connections.
    pub(crate) fn steer(&self, live: BTreeSet<InstanceId>) {
        let mut state = self.state();
        state.live = live;
        let addresses: Vec<Address> = state.groups.keys().cloned().collect();
        for address in addresses {
            state.steer(&address);
        }
    }

    /// Nobody gets new connections any more: who asks for one is not answered, until the sockets are
    /// gone.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closing = true;
        let addresses: Vec<Address> = state.groups.keys().cloned().collect();
        for address in addresses {
            // Without a gate, those who come meanwhile are served as long as somebody is there.
            let _ = state.close(&address);
        }
    }

    /// Once those who were there have been served, newcomers wait for the next run: the service manager
    /// keeps the sockets until then.
    pub(crate) fn leave_open(&self) {
        let mut state = self.state();
        if !state.store.is_there() {
            return;
        }
        for (address, gate) in std::mem::take(&mut state.gates) {
            let inode = gate.inode();
            drop(gate);
            if let Some(group) = state.groups.get_mut(&address) {
                group.leave(&inode);
            }
            state.steer(&address);
        }
    }

    /// The service manager is to keep nothing for the next run.
    pub(crate) fn forget_all(&self) {
        self.state().store.forget_all();
    }

    /// Waits until a worker listens on something more.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// What workers listen on since this was last asked.
    pub(crate) fn listens(&self) -> Vec<(InstanceId, Address)> {
        std::mem::take(&mut self.state().listens)
    }

    /// Whether no connection waits for this process alone, nor is about to.
    pub(crate) fn is_drained(&self, start: InstanceId) -> bool {
        let state = self.state();
        let mut ports = BTreeSet::new();
        for (inode, address) in state.slots.used_by(start) {
            if address.protocol != Protocol::Tcp
                || state.slots.is_used_by_another(inode, start)
                || state.outlives_us(inode)
            {
                continue;
            }
            let waits = state.sockets.get(&inode).and_then(|socket| socket.accept_queue().ok());
            if waits.is_some_and(|queue| queue.waiting > 0) {
                return false;
            }
            ports.insert(address.port());
        }
        drop(state);
        // Nothing is known of one more than that they are few: those of others count too.
        ports.into_iter().all(|port| netlink::count_handshakes(port).is_ok_and(|begun| begun == 0))
    }

    /// What waits for this process to accept it.
    pub(crate) fn waiting(&self, start: InstanceId) -> u32 {
        let state = self.state();
        let waiting = |inode| Some(state.sockets.get(&inode)?.accept_queue().ok()?.waiting);
        state.slots.used_by(start).filter_map(|(inode, _)| waiting(inode)).sum()
    }

    /// Closes what nobody uses and nobody waits in: there are enough members without it. The last on
    /// an address that somebody is to listen on stays, for whoever does next.
    pub(crate) fn release_spare(&self, is_expected: impl Fn(&Address) -> bool) {
        /// Nobody comes to whom waits there; an end of it is better than none.
        const ROUNDS: u32 = 5;
        let mut state = self.state();
        let free: BTreeMap<u64, Address> = state.slots.unused().collect();
        state.stranded.retain(|inode, _| free.contains_key(inode));
        for (inode, address) in free {
            let is_last = !state.slots.on_address(&address, &state.live).values().any(|live| *live);
            if state.is_common(inode) || is_last && is_expected(&address) {
                continue;
            }
            let queue = state.sockets.get(&inode).map(WorkerSocket::accept_queue);
            if matches!(queue, Some(Ok(queue)) if queue.waiting > 0) {
                let rounds = state.stranded.entry(inode).or_default();
                *rounds += 1;
                if *rounds < ROUNDS {
                    continue;
                }
            }
            if state.store.let_go(inode) {
                state.release(inode);
            }
        }
    }

    /// Marks what this process has closed as free. Gives the addresses that it does not use any more.
    pub(crate) fn look_for_closed(&self, start: InstanceId, pids: &[i32]) -> BTreeSet<Address> {
        let before = self.addresses(start);
        self.state().look_for_closed(start, pids);
        before.difference(&self.addresses(start)).cloned().collect()
    }

    /// Sockets that this process uses and no other.
    pub(crate) fn own(&self, start: InstanceId) -> HashSet<u64> {
        self.state().own(start)
    }

    /// Addresses that this process uses.
    pub(crate) fn addresses(&self, start: InstanceId) -> BTreeSet<Address> {
        let state = self.state();
        let unheld = state.unheld.get(&start).into_iter().flatten();
        state.slots.used_by(start).map(|(_, address)| address).chain(unheld).cloned().collect()
    }

    pub(crate) fn seen(&self) -> Vec<AddressStatus> {
        let state = self.state();
        let seen = |address: &Address| {
            let members = state.slots.on_address(address, &state.live);
            let queues =
                members.keys().filter_map(|inode| state.sockets.get(inode)?.accept_queue().ok());
            let (waiting, limit) = queues.fold((0, 0), |(waiting, limit), queue| {
                (waiting + queue.waiting, limit + queue.limit)
            });
            AddressStatus {
                address: address.clone(),
                members: members.len(),
                waiting,
                limit,
                unused: members
                    .keys()
                    .all(|inode| state.slots.unused().any(|(free, _)| free == *inode)),
                not_held: state.not_put.get(address).cloned(),
                not_steered: match address.protocol {
                    Protocol::Tcp => state.not_steered.get(address).cloned(),
                    Protocol::Udp => {
                        Some("datagrams have no queue of their own to leave out".into())
                    }
                },
            }
        };
        let mut all: Vec<AddressStatus> = state.slots.addresses().into_iter().map(seen).collect();
        let unheld: BTreeSet<&Address> = state.unheld.values().flatten().collect();
        for address in unheld {
            let members = state.unheld.values().filter(|on| on.contains(address)).count();
            let why = || Some("the sockets of this run are not held".to_owned());
            let (address, not_held, not_steered) = (address.clone(), why(), why());
            let (waiting, limit, unused) = (0, 0, false);
            all.push(AddressStatus {
                address,
                members,
                waiting,
                limit,
                not_held,
                not_steered,
                unused,
            });
        }
        all
    }

    /// A TCP address that this process listens on.
    pub(crate) fn own_socket(&self, start: InstanceId) -> Option<Address> {
        self.addresses(start).into_iter().find(|address| address.protocol == Protocol::Tcp)
    }

    /// Until it is dropped, connections from this port to this address reach this process.
    pub(crate) fn aim(&self, start: InstanceId, address: &Address, from: u16) -> ProbeSteering {
        let mut state = self.state();
        let inode =
            state.slots.used_by(start).find(|(_, it)| *it == address).map(|(inode, _)| inode);
        if let Some(inode) = inode {
            state.aims.insert(from, (address.clone(), inode));
            state.steer(address);
        }
        ProbeSteering { held: self.clone(), from }
    }
}

/// A port whose connections go to one worker.
pub(crate) struct ProbeSteering {
    held: SocketPool,
    from: u16,
}

impl Drop for ProbeSteering {
    fn drop(&mut self) {
        let mut state = self.held.state();
        if let Some((address, _)) = state.aims.remove(&self.from) {
            state.steer(&address);
        }
    }
}
