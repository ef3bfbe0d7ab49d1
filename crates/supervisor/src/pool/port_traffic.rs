//! The traffic of one port: its rules, its members, and what holds.

use std::collections::{BTreeMap, BTreeSet};

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::model::{Address, Protocol};
use sameport_policy::traffic::remarks::remarks;
use sameport_policy::traffic::shares::wanted_shares;
use sameport_policy::traffic::{
    MemberState, MemberTraffic, PlannedMember, SteeringTier, TrafficFacts, TrafficMember,
    TrafficPolicy, TrafficRules, TrafficStatus, decide,
};
use sameport_sys::bpf::traffic::TrafficCounts;
use sameport_sys::{proc, process};

use super::steering::Steering;
use super::{PoolState, SocketPool};
use crate::control::protocol::PortRules;
use crate::handover::HandoverTraffic;
use crate::traffic::{PortKey, extended, others};

const NO_ORDER_OF_DATAGRAMS: &str = "the order of its datagram sockets in the kernel is not known: \
                                     it is recorded from the start of a run with --policy";

/// What the pool does not know about its workers.
pub(crate) struct WorkerLoads {
    /// Open connections on the port.
    pub(crate) open: BTreeMap<InstanceId, u32>,
    /// Workers that finish what they have.
    pub(crate) draining: BTreeSet<InstanceId>,
    /// Workers that leave connections in their queue.
    pub(crate) stalled: BTreeSet<InstanceId>,
}

impl SocketPool {
    /// The facts about the members of a port; `None` if the run has no socket there.
    pub(crate) fn traffic_facts(&self, port: PortKey) -> Option<TrafficFacts> {
        self.state().port_facts(port)
    }

    /// The tier that carries policies out.
    pub(crate) fn tier(&self) -> SteeringTier {
        self.state().steering.traffic.run.tier
    }

    /// Sets the rules of a port; `None` or `hash`: the kernel's hash, and no state. Gives the addresses where they do not hold.
    pub(crate) fn set_rules(
        &self,
        port: PortKey,
        rules: Option<TrafficRules>,
    ) -> Vec<(Address, String)> {
        let rules = rules.filter(|rules| rules.policy != TrafficPolicy::Hash);
        let mut state = self.state();
        let PoolState { slots, steering, .. } = &mut *state;
        let ends = rules.is_none() && steering.is_extended(port);
        steering.traffic.set_rules(port, rules);
        if ends {
            steering.replaces_extended(slots, port);
        }
        let failures = state.steer_port(port);
        match ends && !state.steering.forget_extended(port) {
            // The state is there, and selects again.
            true => state.steer_port(port),
            false => failures,
        }
    }

    /// Gives workers nothing new on a port, or gives them new connections again.
    pub(crate) fn drain_on(&self, port: PortKey, workers: &BTreeSet<InstanceId>, undo: bool) {
        let mut state = self.state();
        for start in workers {
            state.steering.traffic.drain(port, *start, !undo);
        }
        state.steer_port(port);
    }

    /// Sets the workers that leave connections in their queue, before the groups are steered.
    pub(crate) fn set_hung(&self, workers: BTreeSet<InstanceId>) {
        self.state().steering.traffic.hung = workers;
    }

    /// What requests have set, for the next supervisor.
    pub(crate) fn own_rules(&self) -> HandoverTraffic {
        let traffic = &self.state().steering.traffic;
        HandoverTraffic { rules: traffic.own_rules(), drained: traffic.drained() }
    }

    /// What requests have set, where it is not what the run was started with.
    pub(crate) fn steered(&self) -> Vec<PortRules> {
        let traffic = &self.state().steering.traffic;
        let is_other = |it: &PortRules| {
            let protocol = if it.port.udp { Protocol::Udp } else { Protocol::Tcp };
            it.rules.as_ref() != traffic.run.rules(protocol)
        };
        traffic.own_rules().into_iter().filter(is_other).collect()
    }

    /// Whether a port has rules, by the command line or a request.
    pub(crate) fn has_rules(&self) -> bool {
        let traffic = &self.state().steering.traffic;
        let of_run = |protocol| traffic.run.rules(protocol).is_some();
        of_run(Protocol::Tcp)
            || of_run(Protocol::Udp)
            || traffic.own_rules().iter().any(|it| it.rules.is_some())
    }

    /// Whether the run was started with rules for this port.
    pub(crate) fn has_rules_for(&self, port: PortKey) -> bool {
        self.state().steering.traffic.run.rules(port.protocol).is_some()
    }

    /// Continues with what requests have set before. Steers nothing.
    pub(crate) fn restore_rules(&self, earlier: &HandoverTraffic) {
        let traffic = &mut self.state().steering.traffic;
        for PortRules { port, rules } in &earlier.rules {
            traffic.set_rules((*port).into(), rules.clone());
        }
        for (port, start) in &earlier.drained {
            traffic.drain((*port).into(), *start, true);
        }
    }

    /// The workers with a socket on a port that get new connections there.
    pub(crate) fn takers_on(&self, port: PortKey) -> BTreeSet<InstanceId> {
        let state = self.state();
        let slots = &state.slots;
        let of_port = state.addresses_of(port);
        let members = of_port.iter().flat_map(|address| slots.members(address));
        members
            .filter(|(inode, live)| {
                *live && !state.steering.traffic.is_drained(slots, port, *inode)
            })
            .flat_map(|(inode, _)| slots.held.users(inode))
            .filter(|start| slots.live.contains(start))
            .collect()
    }

    /// The ports of the run that have rules, a canary, or a worker that is drained.
    pub(crate) fn ports_with_rules(&self) -> BTreeSet<PortKey> {
        let state = self.state();
        let ports = state.slots.held.addresses().into_iter().map(PortKey::of);
        let steering = &state.steering;
        ports.filter(|port| steering.traffic.is_set(*port) || steering.is_extended(*port)).collect()
    }

    /// The addresses where a policy is not in force, each once for each reason.
    pub(crate) fn new_policy_failures(&self) -> Vec<(Address, String)> {
        let Steering { traffic, failures, .. } = &mut self.state().steering;
        let has_policy = |address: &Address| traffic.rules(PortKey::of(address)).is_some();
        let present: BTreeMap<Address, String> = failures
            .iter()
            .filter(|(address, _)| has_policy(address))
            .map(|(address, why)| (address.clone(), why.clone()))
            .collect();
        let told = std::mem::replace(&mut traffic.told, present.clone());
        present.into_iter().filter(|(address, why)| told.get(address) != Some(why)).collect()
    }

    /// The ports whose policy was set again since the last call, what had replaced it, and the processes
    /// with a socket in their groups that are not of this run.
    pub(crate) fn new_restorations(&self) -> Vec<(PortKey, String, Vec<String>)> {
        let mut state = self.state();
        let restored = state.steering.traffic.restored.iter_mut();
        let new = restored.filter(|(_, it)| it.told < it.times).map(|(port, it)| {
            it.told = it.times;
            (*port, it.by.clone())
        });
        let new: Vec<(PortKey, String)> = new.collect();
        let of = |(port, by)| {
            let own = state.port_facts(port).map(|facts| facts.members).unwrap_or_default();
            (port, by, others::strangers(port, &own))
        };
        new.into_iter().map(of).collect()
    }

    /// What holds for a port; `None` if the run has no socket there.
    pub(crate) fn traffic(&self, port: PortKey, loads: &WorkerLoads) -> Option<TrafficStatus> {
        let state = self.state();
        let mut facts = state.port_facts(port)?;
        let counted = match state.steering.is_extended(port) {
            true => extended::counts(port),
            false => None,
        };
        let (held, counts) =
            counted.map_or((None, None), |(held, counts)| (Some(held), Some(counts)));
        let strangers = others::strangers(port, &facts.members);
        if counts.is_some() {
            // One that waits for the next worker is not another's either.
            let spare = state.spare_members(port);
            let own: Vec<TrafficMember> = facts.members.iter().cloned().chain(spare).collect();
            facts.members.extend(extended::others_of(port, &own));
        }
        let rules = held.unwrap_or_else(|| state.steering.traffic.whole_rules(port));
        // Of this tier every policy has a plan, also one that is not in force.
        let plan = decide(&facts, &rules, SteeringTier::Extended);
        let in_force = state.in_force(port);
        let follows = state.steering.traffic.rules(port).is_some() && in_force.is_ok();
        let tier = match &counts {
            Some(_) => Some(SteeringTier::Extended),
            None => follows.then_some(SteeringTier::Classic),
        };
        let shares = plan.as_ref().map(wanted_shares).unwrap_or_default();
        let planned = plan.iter().flat_map(|plan| &plan.members);
        let members = planned.zip(shares).map(|(member, share)| {
            let share = share.filter(|_| in_force.is_ok());
            let seen = state.member_traffic(port, member, share, loads);
            counts.iter().fold(seen, |seen, counts| counted_member(member, seen, counts))
        });
        let members = members.collect();
        let addresses: BTreeSet<String> =
            facts.members.iter().map(|member| member.address.to_string()).collect();
        let mut remarks = match &plan {
            Ok(plan) => remarks(&facts, &rules, plan),
            Err(refusal) => vec![refusal.to_string()],
        };
        remarks.extend(state.steering.traffic.intrusions(port, &strangers));
        Some(TrafficStatus {
            protocol: port.protocol,
            port: port.port,
            addresses: addresses.into_iter().collect(),
            tier,
            rules,
            in_force,
            members,
            choices: counts.as_ref().map(|counts| chosen(counts) + counts.missed),
            remarks,
        })
    }
}

/// How often a member of a port was chosen.
fn chosen(counts: &TrafficCounts) -> u64 {
    counts.members.iter().map(|member| member.chosen).sum()
}

/// A member with what the eBPF programs count.
fn counted_member(
    member: &PlannedMember,
    seen: MemberTraffic,
    counts: &TrafficCounts,
) -> MemberTraffic {
    let is_of = |cookie: &u64| member.sockets.iter().any(|socket| socket.cookie == Some(*cookie));
    let Some(counted) = counts.members.iter().find(|it| it.cookies.iter().any(is_of)) else {
        return seen;
    };
    let all = chosen(counts);
    // Exact in a float: below 2⁵³.
    #[expect(clippy::cast_precision_loss, reason = "a share needs three digits")]
    let share = (all > 0).then(|| counted.chosen as f64 / all as f64);
    MemberTraffic {
        share_seen: share,
        chosen: Some(counted.chosen),
        open: Some(counted.open),
        state: if counted.hung || counted.full { MemberState::Hung } else { seen.state },
        ..seen
    }
}

impl PoolState {
    pub(super) fn addresses_of(&self, port: PortKey) -> Vec<Address> {
        let all = self.slots.held.addresses().into_iter();
        all.filter(|address| PortKey::of(address) == port).cloned().collect()
    }

    /// Steers the groups of a port. Gives those where the rules do not hold.
    fn steer_port(&mut self, port: PortKey) -> Vec<(Address, String)> {
        let Self { slots, steering, .. } = self;
        let addresses = slots.held.addresses().into_iter();
        let addresses: Vec<Address> =
            addresses.filter(|address| PortKey::of(address) == port).cloned().collect();
        for address in &addresses {
            if steering.records(address) {
                steering.steer(slots, address);
            }
        }
        let failed = |address| Some((address, self.steering.failures.get(address)?));
        let failures = addresses.iter().filter_map(failed);
        failures.map(|(address, why)| (address.clone(), why.clone())).collect()
    }

    fn port_facts(&self, port: PortKey) -> Option<TrafficFacts> {
        let Self { slots, steering, .. } = self;
        let mut all: Option<TrafficFacts> = None;
        for address in self.addresses_of(port) {
            let members = slots.members(&address);
            // One that waits for the next worker is nobody's member.
            let is_used = |inode: &u64| !slots.held.users(*inode).is_empty();
            let sockets: Vec<u64> = members.keys().copied().filter(is_used).collect();
            let takes = |inode: &u64| {
                members.get(inode) == Some(&true)
                    && !steering.traffic.is_drained(slots, port, *inode)
            };
            let mut facts = steering.traffic.facts(slots, &address, &sockets, takes);
            facts.order_unknown = match steering.records(&address) {
                true => steering.obstacle(&address),
                false => Some(NO_ORDER_OF_DATAGRAMS.to_owned()),
            };
            match &mut all {
                None => all = Some(facts),
                Some(all) => {
                    all.members.extend(facts.members);
                    all.order_unknown = all.order_unknown.take().or(facts.order_unknown);
                }
            }
        }
        all
    }

    /// The sockets of a port that wait for the next worker.
    fn spare_members(&self, port: PortKey) -> Vec<TrafficMember> {
        let Self { slots, steering, .. } = self;
        let spare = self.addresses_of(port).into_iter().flat_map(|address| {
            let members = slots.members(&address).into_keys();
            let spare: Vec<u64> =
                members.filter(|inode| slots.held.users(*inode).is_empty()).collect();
            steering.traffic.facts(slots, &address, &spare, |_| false).members
        });
        spare.collect()
    }

    /// Whether the rules hold on every address of the port.
    fn in_force(&self, port: PortKey) -> Result<(), String> {
        let is_of_port = |(address, _): &(&Address, &String)| PortKey::of(address) == port;
        let has_rules = self.steering.traffic.rules(port).is_some();
        let is_recorded = self.addresses_of(port).iter().all(|it| self.steering.records(it));
        match self.steering.failures.iter().find(is_of_port) {
            Some((_, why)) => Err(why.clone()),
            None if has_rules && !is_recorded => Err(NO_ORDER_OF_DATAGRAMS.to_owned()),
            None => Ok(()),
        }
    }

    fn member_traffic(
        &self,
        port: PortKey,
        member: &PlannedMember,
        share_wanted: Option<f64>,
        loads: &WorkerLoads,
    ) -> MemberTraffic {
        let Self { slots, steering, .. } = self;
        let inodes: Vec<u64> = member.sockets.iter().map(|socket| socket.inode).collect();
        let user = inodes.iter().flat_map(|inode| slots.held.users(*inode)).max();
        let worker = user.and_then(|start| steering.traffic.worker(start));
        let addresses = inodes.iter().filter_map(|inode| slots.held.address(*inode));
        let queues = inodes.iter().filter_map(|inode| slots.sockets.get(inode));
        let queues: Vec<_> = queues.filter_map(|socket| socket.accept_queue().ok()).collect();
        let is_full = queues.iter().any(|queue| queue.limit > 0 && queue.waiting > queue.limit);
        let is = |these: &BTreeSet<InstanceId>| user.is_some_and(|start| these.contains(&start));
        let is_stopped = member.pid.is_some_and(process::is_stopped);
        let is_drained =
            inodes.iter().any(|inode| steering.traffic.is_drained(slots, port, *inode));
        let state = match () {
            () if is_full || is_stopped || is(&loads.stalled) => MemberState::Hung,
            () if is_drained || is(&loads.draining) => MemberState::Draining,
            () if !member.admitted => MemberState::HeldBack,
            () => MemberState::Serving,
        };
        MemberTraffic {
            pid: member.pid,
            program: member.pid.and_then(proc::program_name),
            run: worker.and(steering.traffic.run.names.run.as_ref()).map(ToString::to_string),
            worker: worker.map(|worker| worker.ordinal),
            addresses: addresses.map(ToString::to_string).collect(),
            inodes: inodes.clone(),
            weight: Some(member.weight),
            rank: Some(member.rank),
            canary: member.canary,
            share_wanted,
            share_seen: None,
            chosen: None,
            open: user.and_then(|start| loads.open.get(&start)).copied(),
            queue: Some(queues.iter().map(|queue| queue.waiting).sum()),
            backlog: Some(queues.iter().map(|queue| queue.limit).sum()),
            drops: None,
            state,
        }
    }
}
