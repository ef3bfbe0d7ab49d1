//! Requests about traffic: the policy of a port, workers that get no new connections, what holds.

use std::collections::{BTreeMap, BTreeSet};

use sameport_policy::lifecycle::{InstanceId, WorkerState};
use sameport_policy::traffic::{MemberSelector, TrafficRules, TrafficStatus, check};
use sameport_sys::netlink;

use super::NamedRun;
use super::control_endpoint::WaitingSteer;
use crate::control::Responder;
use crate::control::protocol::{ControlReply, FaultKind};
use crate::event::RunEvent;
use crate::monitor::Monitor;
use crate::pool::{LoadProgress, WorkerLoads};
use crate::traffic::PortKey;

impl NamedRun<'_> {
    /// Sets the policy of a port when its programs are loaded. Other requests are answered meanwhile.
    pub(super) fn request_steer(
        &mut self,
        port: PortKey,
        rules: Option<TrafficRules>,
        replies: Responder,
    ) {
        let is_held = self.pool.traffic_facts(port).is_some();
        let loading = match rules.as_ref().filter(|_| is_held) {
            Some(rules) => self.pool.prepare_rules(port, rules),
            None => None,
        };
        self.control.steers.push(WaitingSteer { port, rules, replies, loading });
        self.finish_steers();
    }

    /// Sets the policies whose programs are loaded.
    pub(super) fn finish_steers(&mut self) {
        let is_loaded = |it: &WaitingSteer| it.loading.as_ref().is_none_or(LoadProgress::is_over);
        while self.control.steers.first().is_some_and(is_loaded) {
            let WaitingSteer { port, rules, replies, .. } = self.control.steers.remove(0);
            replies.finish(self.steer_port(port, rules));
        }
    }

    /// Sets the policy of a port, if it can hold.
    fn steer_port(&mut self, port: PortKey, rules: Option<TrafficRules>) -> ControlReply {
        let Some(facts) = self.pool.traffic_facts(port) else { return self.no_socket(port) };
        if let Some(rules) = &rules
            && let Err(refusal) = check(&facts, rules, self.pool.tier())
        {
            return ControlReply::refused(&refusal);
        }
        let failures = self.pool.set_rules(port, rules);
        self.control.record.changed();
        match failures.into_iter().next() {
            None => ControlReply::Done,
            Some((address, why)) => ControlReply::Failed {
                fault: FaultKind::Unsupported,
                error: format!("the policy is not in force on {}: {why}", address.labelled()),
                hint: Some("`sameport status` shows when it is".to_owned()),
            },
        }
    }

    /// Gives workers nothing new on a port, or gives them new connections again.
    pub(super) fn drain_on(
        &self,
        port: PortKey,
        member: &MemberSelector,
        undo: bool,
    ) -> ControlReply {
        if self.pool.traffic_facts(port).is_none() {
            return self.no_socket(port);
        }
        let workers: BTreeSet<InstanceId> =
            self.workers.first.keys().copied().filter(|it| self.is_selected(*it, member)).collect();
        if workers.is_empty() {
            let error = format!("no worker is \"{member}\"");
            return ControlReply::Failed {
                fault: FaultKind::Other,
                error,
                hint: Some(format!("`sameport status {}` lists the workers", self.options.name)),
            };
        }
        let takers = self.pool.takers_on(port);
        if !undo && takers.is_subset(&workers) && !takers.is_empty() {
            let error = format!("no other worker gets connections on port {}", port.port);
            let hint = "the others could not take over: start more workers first";
            return ControlReply::Failed {
                fault: FaultKind::Other,
                error,
                hint: Some(hint.to_owned()),
            };
        }
        self.pool.drain_on(port, &workers, undo);
        ControlReply::Done
    }

    /// Whether a selector means this worker.
    fn is_selected(&self, start: InstanceId, member: &MemberSelector) -> bool {
        let Some(first) = self.workers.get(start) else { return false };
        let is_own = |name: &str| {
            let group = self.plan.scope.group.as_ref();
            name == self.options.name.as_str() || group.is_some_and(|group| group.as_str() == name)
        };
        match member {
            MemberSelector::Pid(pid) => {
                first.pid == *pid || self.workers.processes_of(start, &self.pool).contains(pid)
            }
            MemberSelector::Worker(run, ordinal) => {
                *run == self.options.name && first.ordinal == *ordinal
                    || is_own(&member.to_string())
            }
            MemberSelector::Name(name) => is_own(name.as_str()),
        }
    }

    /// What holds for a port.
    pub(super) fn show_traffic(&self, port: PortKey) -> ControlReply {
        match self.traffic(port) {
            Some(traffic) => ControlReply::Traffic(Box::new(traffic)),
            None => self.no_socket(port),
        }
    }

    /// The traffic of every port with a policy.
    pub(super) fn traffic_of_ports(&self) -> Vec<TrafficStatus> {
        let ports = self.pool.ports_with_rules().into_iter();
        ports.filter_map(|port| self.traffic(port)).collect()
    }

    fn traffic(&self, port: PortKey) -> Option<TrafficStatus> {
        let is_draining = |state| state == WorkerState::Draining;
        let report = self.lifecycle.report();
        let draining = report.iter().filter(|worker| is_draining(worker.state));
        let loads = WorkerLoads {
            open: self.open_connections(port.port),
            draining: draining.filter_map(|worker| worker.instance).collect(),
            stalled: self.drains.not_accepting(),
        };
        self.pool.traffic(port, &loads)
    }

    /// The open connections of each worker on a port.
    fn open_connections(&self, port: u16) -> BTreeMap<InstanceId, u32> {
        let snapshot = self.pool.processes().snapshot();
        let starts: Vec<InstanceId> = self.workers.first.keys().copied().collect();
        let groups: Vec<Vec<i32>> = starts.iter().map(|it| snapshot.of(*it).to_vec()).collect();
        let counts = netlink::count_connections(&[port], &groups).unwrap_or_default();
        let counts = counts.into_iter().map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        starts.into_iter().zip(counts).collect()
    }

    fn no_socket(&self, PortKey { protocol, port }: PortKey) -> ControlReply {
        ControlReply::Failed {
            fault: FaultKind::Other,
            error: format!("{} has no socket on port {port}/{protocol}", self.options.name),
            hint: Some(format!("`sameport status {}` lists its addresses", self.options.name)),
        }
    }

    /// Reports addresses where the policy is not in force.
    pub(super) fn report_policy(&mut self) {
        for (address, why) in self.pool.new_policy_failures() {
            self.events.push(RunEvent::PolicyNotInForce { address, why });
        }
        for (port, by, strangers) in self.pool.new_restorations() {
            self.events.push(RunEvent::PolicyRestored { port: port.into(), by, strangers });
        }
    }

    /// Takes sockets that have joined a port into its state, in a run that does not hold them.
    pub(super) fn follow_ports(&mut self, monitor: &mut Monitor<'_>) {
        let joined = monitor.take_joined();
        if self.learns_of_listeners() {
            return;
        }
        for port in joined {
            let pids = self.workers.first.keys();
            let pids = pids.flat_map(|start| self.workers.processes_of(*start, &self.pool));
            let pids: Vec<i32> = pids.collect();
            let outside = self.workers.outside.as_mut();
            if let Some((address, why)) = outside.and_then(|outside| outside.joined(port, &pids)) {
                self.events.push(RunEvent::PolicyNotInForce { address, why });
            }
        }
    }
}
