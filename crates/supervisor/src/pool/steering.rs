//! Steering: which members of a reuseport group get new connections.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use sameport_policy::model::{Address, Protocol};
use sameport_policy::systemd;
use sameport_policy::systemd::StoredName;
use sameport_policy::traffic::classic::{ClassicGroup, NoProgram};
use sameport_policy::traffic::steering::OrderedGroup;
use sameport_policy::traffic::{SteeringTier, TrafficPolicy, TrafficRules, classic, decide};
use sameport_sys::Errno;
use sameport_sys::inspect;
use sameport_sys::socket::WorkerSocket;

use super::slots::Slots;
use super::traffic::PoolTraffic;
use crate::traffic::{PortKey, RunTraffic, no_program};

/// Why the members of a group cannot be told apart.
const UNKNOWN_ORDER: &str =
    "its sockets are older than the supervisor, and their order in the kernel is not known";

const NO_MEMBER: &str = "there is no member";

/// An inode that no socket has.
const NO_INODE: u64 = 0;

const ONE_FOR_ALL: &str = "all workers accept from the one socket that a socket unit has opened";

/// What a program selects among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    /// The members.
    ByPolicy,
    /// The members without the one that joins next.
    WithoutNext,
    /// The members while this one leaves.
    WhileLeaving(u64),
    /// The gate.
    OnlyGate,
}

fn refused(errno: Errno) -> String {
    format!("the kernel refused it: {errno}")
}

#[derive(Debug)]
pub(crate) struct Steering {
    /// The policy of each port.
    pub(super) traffic: PoolTraffic,
    /// Members in the kernel's order; of UDP with a policy only.
    pub(super) groups: BTreeMap<Address, OrderedGroup<u64>>,
    /// Members that accept no connection, while the run drains.
    pub(super) gates: BTreeMap<Address, WorkerSocket>,
    /// Addresses whose members drop new clients while the run stops: others are in the groups.
    pub(super) leaving: BTreeSet<Address>,
    /// Addresses whose new clients wait for the end of workers that were given up, and since when.
    pub(super) withdrawn: BTreeMap<Address, Instant>,
    /// Client ports of readiness probes, with the member that gets their connections.
    pub(super) probes: BTreeMap<u16, (Address, u64)>,
    /// The members that got new connections last. They still do while no worker is live, and the next
    /// workers get them first.
    served: BTreeMap<Address, BTreeSet<u64>>,
    /// Addresses of groups whose order is not known.
    pub(super) unordered: BTreeSet<Address>,
    /// Addresses that are not steered, with the reason.
    pub(super) failures: BTreeMap<Address, String>,
    /// Groups that may have a program of this run. Another program is not detached.
    pub(super) programs: BTreeSet<Address>,
}

impl Steering {
    pub(super) fn new(run: RunTraffic) -> Self {
        Self {
            traffic: PoolTraffic::new(run),
            groups: BTreeMap::new(),
            gates: BTreeMap::new(),
            leaving: BTreeSet::new(),
            withdrawn: BTreeMap::new(),
            probes: BTreeMap::new(),
            served: BTreeMap::new(),
            unordered: BTreeSet::new(),
            failures: BTreeMap::new(),
            programs: BTreeSet::new(),
        }
    }

    /// Why the members of this group cannot be told apart: the kernel counts members of other programs
    /// too.
    pub(super) fn obstacle(&self, address: &Address) -> Option<String> {
        if self.is_extended(PortKey::of(address)) {
            return None;
        }
        if self.unordered.contains(address) {
            return Some(UNKNOWN_ORDER.into());
        }
        let query = inspect::SocketQuery::only(address.protocol).on(address.port());
        let members = self.groups.get(address).map_or(&[][..], OrderedGroup::members);
        let gate = self.gates.get(address).map(WorkerSocket::inode);
        match inspect::list_without_owners(&query) {
            Ok(sockets) => sockets
                .iter()
                .filter(|socket| socket.address == *address)
                .any(|socket| !members.contains(&socket.inode) && Some(socket.inode) != gate)
                .then(|| "members that are not of this run are on the address too".into()),
            // A failed inspection is no evidence of other members.
            Err(_) => None,
        }
    }

    /// Whether a program can keep a socket that joins from traffic. The order of datagram sockets is
    /// recorded for a policy only.
    pub(super) fn can_hold_back(&self, address: &Address) -> bool {
        address.protocol == Protocol::Tcp || self.traffic.rules(PortKey::of(address)).is_some()
    }

    /// Whether the order of the members of this address is recorded.
    pub(super) fn records(&self, address: &Address) -> bool {
        address.protocol == Protocol::Tcp || self.groups.contains_key(address)
    }

    /// Steers new connections of one address to live workers.
    pub(super) fn steer(&mut self, slots: &Slots, address: &Address) {
        if self.gates.contains_key(address) {
            return;
        }
        if self.is_extended(PortKey::of(address)) {
            return self.steer_extended(slots, PortKey::of(address));
        }
        let members = slots.members(address);
        let takers = self.takers(slots, address, &members);
        if self.any(slots, address).is_none() {
            return;
        }
        let is_probed = self.probes.values().any(|(at, _)| at == address);
        let has_policy = self.traffic.rules(PortKey::of(address)).is_some();
        let is_plain = takers.len() == members.len() && !is_probed && !has_policy;
        let outcome = if let Some(obstacle) = (!is_plain).then(|| self.obstacle(address)).flatten()
        {
            // The kernel's hash is fair to the other members; a program would leave them out.
            let had_one = self.programs.contains(address);
            let _ = self.stop(slots, address);
            if has_policy && had_one {
                // A stranger that joined can attach a program of its own, also again.
                self.programs.insert(address.clone());
            }
            Err(obstacle)
        } else {
            self.select(slots, address, Selection::ByPolicy, |inode| takers.contains(inode))
        };
        match outcome {
            Ok(()) => self.failures.remove(address),
            Err(why) => self.failures.insert(address.clone(), why),
        };
    }

    pub(super) fn steer_all(&mut self, slots: &Slots) {
        for address in self.groups.keys().cloned().collect::<Vec<_>>() {
            self.steer(slots, &address);
        }
    }

    /// A member of the group, through which its program is set.
    pub(super) fn any<'a>(&self, slots: &'a Slots, address: &Address) -> Option<&'a WorkerSocket> {
        let members = self.groups.get(address)?.members();
        members.iter().find_map(|inode| slots.sockets.get(inode))
    }

    /// Sets the program of a group, or none if the kernel's hash does the same. `takes`: the members that get
    /// new connections.
    pub(super) fn select(
        &mut self,
        slots: &Slots,
        address: &Address,
        selection: Selection,
        takes: impl Fn(&u64) -> bool,
    ) -> Result<(), String> {
        let (group, any) =
            self.groups.get(address).zip(self.any(slots, address)).ok_or(NO_MEMBER)?;
        let rules = match selection {
            Selection::OnlyGate => None,
            _ => self.traffic.rules(PortKey::of(address)),
        };
        let rules = rules.unwrap_or(TrafficRules::new(TrafficPolicy::Hash));
        let facts = self.traffic.facts(slots, address, group.members(), takes);
        let plan = decide(&facts, &rules, SteeringTier::Classic).map_err(|why| why.to_string())?;
        let probes = self.probes.iter().filter(|(_, (at, _))| at == address);
        let probes: Vec<(u16, u64)> = probes.map(|(port, (_, inode))| (*port, *inode)).collect();
        let mut order = group.members().to_vec();
        if selection == Selection::WithoutNext {
            order.push(NO_INODE);
        }
        let leaving = match selection {
            Selection::WhileLeaving(inode) => Some(inode),
            _ => None,
        };
        let selected = ClassicGroup { order: &order, probes: &probes, leaving };
        match classic::program(&plan, &selected) {
            Ok(program) => {
                any.steer(&program).map_err(refused)?;
                self.programs.insert(address.clone());
                Ok(())
            }
            Err(NoProgram::Hash) => self.stop(slots, address),
            Err(why) => Err(no_program(why).to_owned()),
        }
    }

    /// Detaches the program of this run, if the group has one.
    fn stop(&mut self, slots: &Slots, address: &Address) -> Result<(), String> {
        match self.any(slots, address) {
            Some(any) if self.programs.contains(address) => {
                any.stop_steering().map_err(refused)?;
                self.programs.remove(address);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Sets a program that gives nothing to the socket that joins the group next.
    pub(super) fn exclude_newcomers(&mut self, slots: &Slots, address: &Address) {
        if self.is_extended(PortKey::of(address)) || self.obstacle(address).is_some() {
            return;
        }
        let members = slots.members(address);
        let live = |inode: &u64| members.get(inode).copied().unwrap_or(false);
        if let Err(why) = self.select(slots, address, Selection::WithoutNext, live) {
            self.failures.insert(address.clone(), why);
        }
    }

    /// Sets a program that stays right when this member leaves: the kernel moves the last member to its
    /// index. Gives the address of its group.
    pub(super) fn prepare_removal(&mut self, slots: &Slots, inode: u64) -> Option<Address> {
        let (address, _) = self.groups.iter().find(|(_, group)| group.index(&inode).is_some())?;
        let address = address.clone();
        if !self.unordered.contains(&address) && !self.is_extended(PortKey::of(&address)) {
            let members = slots.members(&address);
            let gate = self.gates.get(&address).map(WorkerSocket::inode);
            let live = |inode: &u64| match gate {
                Some(gate) => *inode == gate,
                None => members.get(inode).copied().unwrap_or(false),
            };
            // On failure the kernel's hash selects until the next program is set.
            let _ = self.select(slots, &address, Selection::WhileLeaving(inode), live);
        }
        Some(address)
    }

    /// Removes a closed member from its group.
    pub(super) fn remove(&mut self, address: &Address, inode: u64) {
        let Some(group) = self.groups.get_mut(address) else { return };
        group.leave(&inode);
        match group.members() {
            [] => {
                self.groups.remove(address);
                self.programs.remove(address);
            }
            [_] => drop(self.unordered.remove(address)),
            _ => {}
        }
    }

    /// Members that exist already, in the kernel's order if the names tell it.
    pub(super) fn restore_order(&mut self, address: &Address, names: &[StoredName]) {
        let members: BTreeSet<u64> = names.iter().map(|name| name.inode).collect();
        self.take_over(address, systemd::group_order(names), &members);
    }

    /// Members that exist already, in the kernel's order if it is known.
    pub(super) fn take_over(
        &mut self,
        address: &Address,
        order: Option<Vec<u64>>,
        members: &BTreeSet<u64>,
    ) {
        if order.is_none() {
            self.unordered.insert(address.clone());
            self.failures.insert(address.clone(), UNKNOWN_ORDER.into());
        }
        let order = order.unwrap_or_else(|| members.iter().copied().collect());
        // The supervisor before may have set one.
        self.programs.insert(address.clone());
        let group = self.groups.entry(address.clone()).or_default();
        order.into_iter().for_each(|inode| group.join(inode));
    }

    /// Marks an address with one socket for all workers.
    pub(super) fn has_one_for_all(&mut self, address: &Address) {
        self.failures.insert(address.clone(), ONE_FOR_ALL.into());
    }

    /// Selects the members that get connections before the first worker is ready. An earlier run that
    /// ended during a restart leaves more sockets than workers; the first workers get these.
    pub(super) fn choose_first(&mut self, slots: &Slots, address: &Address, copies: u16) {
        let mut all: Vec<u64> = slots.members(address).into_keys().collect();
        all.sort_by_key(|inode| slots.waiting(*inode) == 0);
        let with_queue = all.iter().filter(|inode| slots.waiting(**inode) > 0).count();
        all.truncate(with_queue.max(copies.into()));
        self.served.insert(address.clone(), all.into_iter().collect());
    }

    /// The members of live workers that are not drained.
    pub(super) fn ready(
        &self,
        slots: &Slots,
        address: &Address,
        members: &BTreeMap<u64, bool>,
    ) -> BTreeSet<u64> {
        let takes = |inode: &u64| {
            members.get(inode) == Some(&true)
                && !self.traffic.is_drained(slots, PortKey::of(address), *inode)
        };
        members.keys().copied().filter(takes).collect()
    }

    /// The members that get new connections: those of live workers, else those that got some last.
    pub(super) fn takers(
        &mut self,
        slots: &Slots,
        address: &Address,
        members: &BTreeMap<u64, bool>,
    ) -> BTreeSet<u64> {
        let mut live = self.ready(slots, address, members);
        let is_hung = |inode: &u64| self.traffic.is_hung(slots, *inode);
        if self.traffic.rules(PortKey::of(address)).is_some() && !live.iter().all(is_hung) {
            live.retain(|inode| !is_hung(inode));
        }
        if !live.is_empty() {
            self.served.insert(address.clone(), live.clone());
            return live;
        }
        let served = self.served.get(address).into_iter().flatten().copied();
        let served: BTreeSet<u64> = served.filter(|inode| members.contains_key(inode)).collect();
        if served.is_empty() { members.keys().copied().collect() } else { served }
    }

    /// An unused socket of this address: one with connections in its queue first, then one that gets
    /// new connections.
    pub(super) fn unused(&self, slots: &Slots, address: &Address) -> Option<u64> {
        let served = |inode: u64| self.served.get(address).is_some_and(|it| it.contains(&inode));
        let free = slots.held.unused().filter(|(_, at)| at == address).map(|(inode, _)| inode);
        free.min_by_key(|inode| (slots.waiting(*inode) == 0, !served(*inode), *inode))
    }
}
