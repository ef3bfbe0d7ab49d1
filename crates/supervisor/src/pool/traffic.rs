//! The policy of a pool: the rules of its ports, and the facts about the members of its groups.

use std::collections::{BTreeMap, BTreeSet};

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::model::Address;
use sameport_policy::traffic::{
    CanaryShare, SocketId, TrafficFacts, TrafficMember, TrafficPolicy, TrafficRules,
};
use sameport_sys::bpf::traffic::PreparedTraffic;
use sameport_sys::proc::processors;
use sameport_sys::socket::WorkerSocket;

use super::slots::Slots;
use crate::control::protocol::{PortRules, TrafficPort};
use crate::traffic::{PortKey, RunTraffic};

/// The rules of the ports, and the workers as selectors name them.
#[derive(Debug)]
pub(super) struct PoolTraffic {
    pub(super) run: RunTraffic,
    /// Rules of single ports, from `steer`; `None`: the kernel's hash.
    ports: BTreeMap<PortKey, Option<TrafficRules>>,
    /// Workers that get nothing new on a port, from `drain`.
    drained: BTreeSet<(PortKey, InstanceId)>,
    workers: BTreeMap<InstanceId, KnownWorker>,
    /// The share of the canaries among the workers.
    canary: Option<CanaryShare>,
    /// Workers that leave connections in their queue. With a policy they get nothing new while another can.
    pub(super) hung: BTreeSet<InstanceId>,
    /// Failures that were reported, by address.
    pub(super) told: BTreeMap<Address, String>,
    /// Ports whose state of eBPF has the rules of this run, or had them.
    pub(super) claimed: BTreeSet<PortKey>,
    /// Ports on which the members of a run that stops get nothing new.
    pub(super) left: BTreeSet<PortKey>,
    /// Ports whose state this run has removed.
    pub(super) released: BTreeSet<PortKey>,
    /// Ports whose policy was set again after another program had replaced it.
    pub(super) restored: BTreeMap<PortKey, Restored>,
    /// Programs that were loaded before they are needed.
    pub(super) prepared: BTreeMap<PortKey, PreparedTraffic>,
}

/// How often the policy of a port was set again.
#[derive(Debug, Clone, Default)]
pub(super) struct Restored {
    pub(super) times: u32,
    /// What had replaced it last.
    pub(super) by: String,
    /// How often it was when it was reported last.
    pub(super) told: u32,
}

/// A worker as its members are described.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownWorker {
    pub(super) ordinal: u16,
    pub(super) pid: Option<i32>,
    /// Whether it is of the new version of a canary.
    pub(super) is_canary: bool,
}

impl PoolTraffic {
    pub(super) fn new(run: RunTraffic) -> Self {
        Self {
            run,
            ports: BTreeMap::new(),
            drained: BTreeSet::new(),
            workers: BTreeMap::new(),
            canary: None,
            hung: BTreeSet::new(),
            told: BTreeMap::new(),
            claimed: BTreeSet::new(),
            left: BTreeSet::new(),
            released: BTreeSet::new(),
            restored: BTreeMap::new(),
            prepared: BTreeMap::new(),
        }
    }

    /// What a user should know about programs of others in the groups of a port. `strangers` have a socket
    /// there, and are not of this run.
    pub(super) fn intrusions(&self, port: PortKey, strangers: &[String]) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(Restored { times, by, .. }) = self.restored.get(&port) {
            let times = if *times == 1 { "once".to_owned() } else { format!("{times} times") };
            remarks.push(format!("the policy was set again {times}: {by} had replaced it"));
        }
        let has_policy = self.rules(port).is_some();
        if has_policy && !strangers.is_empty() {
            remarks.push(format!(
                "not of this run, and in its groups: {}; each can replace the policy",
                strangers.join(", ")
            ));
        }
        remarks
    }

    /// Another program had replaced the policy of a port, which is set again.
    pub(super) fn was_replaced(&mut self, port: PortKey, by: String) {
        let restored = self.restored.entry(port).or_default();
        restored.times = restored.times.saturating_add(1);
        restored.by = by;
    }

    /// The rules of a port, with the share of the canary; `None` for the kernel's hash.
    pub(super) fn rules(&self, port: PortKey) -> Option<TrafficRules> {
        let rules = self.whole_rules(port);
        (rules.policy != TrafficPolicy::Hash || rules.canary.is_some()).then_some(rules)
    }

    /// The rules of a port as a user has given them, with the share of the canary.
    pub(super) fn whole_rules(&self, port: PortKey) -> TrafficRules {
        let given = self.given_rules(port).cloned();
        let rules = given.unwrap_or_else(|| TrafficRules::new(TrafficPolicy::Hash));
        TrafficRules { canary: self.canary, ..rules }
    }

    /// Gives these workers a share of new connections; without a share they are workers like any other.
    pub(super) fn set_canary(
        &mut self,
        share: Option<CanaryShare>,
        canaries: &BTreeSet<InstanceId>,
    ) {
        self.canary = share;
        for (start, worker) in &mut self.workers {
            worker.is_canary = canaries.contains(start);
        }
    }

    /// The rules of a port as a user has given them.
    pub(super) fn given_rules(&self, port: PortKey) -> Option<&TrafficRules> {
        match self.ports.get(&port) {
            Some(own) => own.as_ref(),
            None => self.run.rules(port.protocol),
        }
    }

    pub(super) fn set_rules(&mut self, port: PortKey, rules: Option<TrafficRules>) {
        self.claimed.remove(&port);
        self.released.remove(&port);
        self.ports.insert(port, rules);
    }

    /// Whether the port has rules, a canary, or a worker that is drained.
    pub(super) fn is_set(&self, port: PortKey) -> bool {
        self.given_rules(port).is_some()
            || self.canary.is_some()
            || self.drained.iter().any(|(at, _)| *at == port)
    }

    /// What requests have set, for the next supervisor.
    pub(super) fn own_rules(&self) -> Vec<PortRules> {
        let rules = self.ports.iter();
        rules
            .map(|(port, rules)| PortRules { port: (*port).into(), rules: rules.clone() })
            .collect()
    }

    /// The workers that get nothing new, by port.
    pub(super) fn drained(&self) -> Vec<(TrafficPort, InstanceId)> {
        self.drained.iter().map(|(port, start)| ((*port).into(), *start)).collect()
    }

    pub(super) fn worker_begins(&mut self, start: InstanceId, ordinal: u16) {
        self.workers.insert(start, KnownWorker { ordinal, pid: None, is_canary: false });
    }

    pub(super) fn worker_runs(&mut self, start: InstanceId, pid: i32) {
        if let Some(worker) = self.workers.get_mut(&start) {
            worker.pid = Some(pid);
        }
    }

    pub(super) fn worker_ended(&mut self, start: InstanceId) {
        self.workers.remove(&start);
        self.drained.retain(|(_, drained)| *drained != start);
    }

    pub(super) fn worker(&self, start: InstanceId) -> Option<KnownWorker> {
        self.workers.get(&start).copied()
    }

    /// Lets a worker have nothing new on a port, or everything again.
    pub(super) fn drain(&mut self, port: PortKey, start: InstanceId, is_drained: bool) {
        match is_drained {
            true => self.drained.insert((port, start)),
            false => self.drained.remove(&(port, start)),
        };
    }

    /// Whether every user of this socket is drained on the port.
    pub(super) fn is_drained(&self, slots: &Slots, port: PortKey, inode: u64) -> bool {
        let users = slots.held.users(inode);
        !users.is_empty() && users.iter().all(|start| self.drained.contains(&(port, *start)))
    }

    /// Whether a user of this socket does not accept, and no other does.
    pub(super) fn is_hung(&self, slots: &Slots, inode: u64) -> bool {
        let users = slots.held.users(inode);
        !users.is_empty() && users.iter().all(|start| self.hung.contains(start))
    }

    /// The facts about these sockets of one address. `takes`: whether a socket gets new connections.
    pub(super) fn facts(
        &self,
        slots: &Slots,
        address: &Address,
        sockets: &[u64],
        takes: impl Fn(&u64) -> bool,
    ) -> TrafficFacts {
        let members = sockets.iter().map(|inode| TrafficMember {
            admitted: takes(inode),
            ..self.member(slots, address, *inode)
        });
        let mut facts = TrafficFacts::new(address.protocol, members.collect());
        facts.holds_newcomers = true;
        let needs_processors =
            |it: &TrafficRules| matches!(it.policy, TrafficPolicy::Cpu | TrafficPolicy::Numa);
        if self.rules(PortKey::of(address)).as_ref().is_some_and(needs_processors) {
            facts.processors = processors();
        }
        facts
    }

    fn member(&self, slots: &Slots, address: &Address, inode: u64) -> TrafficMember {
        let socket = slots.sockets.get(&inode);
        let id = SocketId { inode, cookie: socket.and_then(|socket| socket.cookie().ok()) };
        // Of a worker and its replacement, the replacement.
        let worker = slots.held.users(inode).iter().max().and_then(|start| self.worker(*start));
        TrafficMember {
            pid: worker.and_then(|worker| worker.pid),
            run: self.run.names.run.clone().filter(|_| worker.is_some()),
            group: self.run.names.group.clone().filter(|_| worker.is_some()),
            worker: worker.map(|worker| worker.ordinal),
            canary: worker.is_some_and(|worker| worker.is_canary),
            incoming_cpu: socket.and_then(WorkerSocket::incoming_cpu),
            ..TrafficMember::new(id, address.clone())
        }
    }
}
