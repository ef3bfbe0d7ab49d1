//! The policy of a run that holds no sockets: the order in which its workers listen, and the program of
//! each group.
//!
//! The supervisor calls `listen`, or `bind` of a datagram socket, in the worker's place, so that it knows the index of each member. It keeps
//! no descriptor of a listener, which would still take connections after the worker has closed it. A
//! member that has left is found by the list of sockets: at the end of a process, and once a second.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sameport_policy::model::{Address, Protocol};
use sameport_policy::traffic::classic::{ClassicGroup, NoProgram};
use sameport_policy::traffic::steering::{OrderedGroup, order_after};
use sameport_policy::traffic::{
    SocketId, SteeringTier, TrafficFacts, TrafficMember, TrafficPolicy, TrafficRules, classic,
    decide,
};
use sameport_sys::proc::processors;
use sameport_sys::socket::{SocketAccess, WorkerSocket};
use sameport_sys::{Errno, inspect};

use super::{RunTraffic, no_program};

const OTHERS: &str = "members that are not of this run are on the address too";

const SEVERAL_LEFT: &str =
    "several sockets were closed at once, and the order of the others in the kernel is not known";

/// The groups of a run, for the threads that answer its workers.
#[derive(Debug, Clone)]
pub(crate) struct OrderedListens(Arc<Mutex<ListenState>>);

#[derive(Debug)]
struct ListenState {
    traffic: RunTraffic,
    groups: BTreeMap<Address, ListenGroup>,
    /// Addresses whose policy is not in force, with the reason, since the last [`OrderedListens::take_failures`].
    failures: Vec<(Address, String)>,
}

#[derive(Debug, Default)]
struct ListenGroup {
    order: OrderedGroup<u64>,
    members: BTreeMap<u64, ListenMember>,
    /// Why the policy is not in force.
    failure: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct ListenMember {
    ordinal: u16,
    incoming_cpu: Option<u32>,
    cookie: Option<u64>,
}

impl OrderedListens {
    /// `None` for a run without a policy, and for one that eBPF steers.
    pub(crate) fn of(traffic: &RunTraffic) -> Option<Self> {
        let state =
            ListenState { traffic: traffic.clone(), groups: BTreeMap::new(), failures: Vec::new() };
        let steers = [Protocol::Tcp, Protocol::Udp].iter().any(|it| state.rules(*it).is_some());
        steers.then(|| Self(Arc::new(Mutex::new(state))))
    }

    fn state(&self) -> MutexGuard<'_, ListenState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether sockets of this protocol join a group through [`Self::join`].
    pub(crate) fn steers(&self, protocol: Protocol) -> bool {
        self.state().rules(protocol).is_some()
    }

    /// Lets a worker's socket join its group with `join`, which is `listen(2)` for TCP and `bind(2)` for
    /// UDP, and steers the group.
    pub(crate) fn join(
        &self,
        socket: &WorkerSocket,
        address: &Address,
        ordinal: u16,
        join: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut state = self.state();
        join()?;
        let inode = socket.inode();
        let group = state.groups.entry(address.clone()).or_default();
        group.order.join(inode);
        let (incoming_cpu, cookie) = (socket.incoming_cpu(), socket.cookie().ok());
        group.members.insert(inode, ListenMember { ordinal, incoming_cpu, cookie });
        state.find_left(address);
        state.steer(address, socket);
        Ok(())
    }

    /// Finds the members that have left, and steers their groups. `pids`: the processes of the workers.
    pub(crate) fn find_closed(&self, pids: &[i32]) {
        let mut state = self.state();
        for address in state.groups.keys().cloned().collect::<Vec<_>>() {
            if state.find_left(&address)
                && let Some(any) = state.any_member(&address, pids)
            {
                state.steer(&address, &any);
            }
        }
    }

    /// The addresses whose policy is not in force, each once for each reason.
    pub(crate) fn take_failures(&self) -> Vec<(Address, String)> {
        std::mem::take(&mut self.state().failures)
    }
}

impl ListenState {
    /// The rules that classic BPF carries out for a protocol.
    fn rules(&self, protocol: Protocol) -> Option<&TrafficRules> {
        let is_classic = self.traffic.tier_for(protocol) == SteeringTier::Classic;
        let rules = self.traffic.rules(protocol).filter(|_| is_classic)?;
        (rules.policy != TrafficPolicy::Hash).then_some(rules)
    }

    /// Removes the members of an address that the kernel does not list. `true`: something has changed.
    fn find_left(&mut self, address: &Address) -> bool {
        let query = inspect::SocketQuery::only(address.protocol).on(address.port());
        // A failed inspection is no evidence.
        let Ok(sockets) = inspect::list_without_owners(&query) else { return false };
        let on_address = sockets.iter().filter(|socket| socket.address == *address);
        let listed: BTreeSet<u64> = on_address.map(|socket| socket.inode).collect();
        let Some(group) = self.groups.get_mut(address) else { return false };
        let known: BTreeSet<u64> = group.order.members().iter().copied().collect();
        let present: BTreeSet<u64> = known.intersection(&listed).copied().collect();
        let failure = match order_after(group.order.members(), &present) {
            _ if listed.iter().any(|inode| !known.contains(inode)) => Some(OTHERS),
            None => Some(SEVERAL_LEFT),
            // A group with one member is in order again.
            Some(_) if group.failure.as_deref() == Some(SEVERAL_LEFT) && present.len() > 1 => {
                Some(SEVERAL_LEFT)
            }
            Some(_) => None,
        };
        let failure = failure.map(str::to_owned);
        let has_changed = present != known || failure != group.failure;
        let order = order_after(group.order.members(), &present);
        let order = order.unwrap_or_else(|| present.iter().copied().collect());
        group.order = OrderedGroup::default();
        order.into_iter().for_each(|inode| group.order.join(inode));
        group.members.retain(|inode, _| present.contains(inode));
        group.failure = failure;
        if present.is_empty() {
            self.groups.remove(address);
        }
        has_changed
    }

    /// A member of the group, from a process that has it open.
    fn any_member(&self, address: &Address, pids: &[i32]) -> Option<WorkerSocket> {
        let members: HashSet<u64> = self.groups.get(address)?.members.keys().copied().collect();
        let open = inspect::descriptors_of(&members, pids).into_values().flatten();
        open.into_iter().find_map(|open| {
            match WorkerSocket::from_thread(open.pid, open.descriptor) {
                Ok(SocketAccess::Socket(socket)) if members.contains(&socket.inode()) => {
                    Some(socket)
                }
                _ => None,
            }
        })
    }

    /// Sets the program of a group through one of its members.
    fn steer(&mut self, address: &Address, any: &WorkerSocket) {
        let Some(group) = self.groups.get(address) else { return };
        let outcome = match &group.failure {
            Some(why) => {
                // The kernel's hash is fair to the other members; a program would leave them out.
                let _ = any.stop_steering();
                Err(why.clone())
            }
            None => self.set_program(address, group, any),
        };
        if let Err(why) = outcome
            && !self.failures.iter().any(|(at, _)| at == address)
        {
            self.failures.push((address.clone(), why));
        }
    }

    fn set_program(
        &self,
        address: &Address,
        group: &ListenGroup,
        any: &WorkerSocket,
    ) -> Result<(), String> {
        let member = |(inode, known): (&u64, &ListenMember)| TrafficMember {
            run: self.traffic.names.run.clone(),
            group: self.traffic.names.group.clone(),
            worker: Some(known.ordinal),
            incoming_cpu: known.incoming_cpu,
            ..TrafficMember::new(SocketId { inode: *inode, cookie: known.cookie }, address.clone())
        };
        let members = group.members.iter().map(member).collect();
        let mut facts = TrafficFacts::new(address.protocol, members);
        facts.processors = processors();
        let tier = SteeringTier::Classic;
        let Some(rules) = self.rules(address.protocol) else { return Ok(()) };
        let plan = decide(&facts, rules, tier).map_err(|why| why.to_string())?;
        let order = group.order.members();
        let selected = ClassicGroup { order, probes: &[], leaving: None };
        let set = match classic::program(&plan, &selected) {
            Ok(program) => any.steer(&program),
            Err(NoProgram::Hash) => any.stop_steering(),
            Err(why) => return Err(no_program(why).to_owned()),
        };
        set.map_err(|errno| format!("the kernel refused it: {errno}"))
    }
}
