//! The eBPF tier for runs that hold no sockets. Every worker that listens gets connections.

use std::collections::{BTreeSet, HashSet};

use sameport_policy::model::{Address, SocketState};
use sameport_policy::traffic::{SocketId, SteeringTier, TrafficMember};
use sameport_sys::inspect;
use sameport_sys::inspect::SocketQuery;

use super::extended::{PortOrder, SteeredSocket};
use super::{PortKey, RunTraffic, extended, others};

/// The ports of a run.
#[derive(Debug)]
pub(crate) struct OutsidePorts {
    traffic: RunTraffic,
    /// Ports that have a state.
    steered: BTreeSet<PortKey>,
}

impl OutsidePorts {
    /// `None` for a run without the rights.
    pub(crate) fn of(traffic: RunTraffic) -> Option<Self> {
        let has_rights = traffic.tier == SteeringTier::Extended;
        has_rights.then_some(Self { traffic, steered: BTreeSet::new() })
    }

    /// Takes the sockets of these processes on a port into its state. The kernel takes later ones of TCP by
    /// itself. Gives the reason if the policy of the run does not hold there.
    pub(crate) fn joined(&mut self, port: PortKey, pids: &[i32]) -> Option<(Address, String)> {
        // Of UDP, classic BPF follows the rules of the run: a state beside its program would replace it.
        let is_extended = self.traffic.tier_for(port.protocol) == SteeringTier::Extended;
        let rules = self.traffic.rules(port.protocol).filter(|_| is_extended).cloned();
        if rules.is_none() && !extended::exists(port) {
            return None;
        }
        let query = SocketQuery::only(port.protocol).on(port.port);
        let listed = inspect::list_without_owners(&query).unwrap_or_default();
        let waiting = listed.iter().filter(|socket| socket.state == SocketState::Waiting);
        let inodes: HashSet<u64> = waiting.map(|socket| socket.inode).collect();
        let found = others::of_processes(&inodes, pids);
        let own = found.iter().filter_map(|(socket, pid)| {
            let listed = listed.iter().find(|it| it.inode == socket.inode())?;
            let id = SocketId { inode: listed.inode, cookie: socket.cookie().ok() };
            let member = TrafficMember {
                pid: Some(*pid),
                run: self.traffic.names.run.clone(),
                group: self.traffic.names.group.clone(),
                incoming_cpu: socket.incoming_cpu(),
                ..TrafficMember::new(id, listed.address.clone())
            };
            Some(SteeredSocket { socket, member })
        });
        let own: Vec<SteeredSocket<'_>> = own.collect();
        let address = own.first()?.member.address.clone();
        let claims = !self.steered.contains(&port);
        let probes = Vec::new();
        let (replaces, is_ready, holds_newcomers) = (false, true, false);
        let order =
            PortOrder { port, rules, claims, replaces, own, is_ready, holds_newcomers, probes };
        match extended::steer(&order, None) {
            Ok(_) => {
                self.steered.insert(port);
                None
            }
            Err(why) => Some((address, why)),
        }
    }

    /// The ports that have a state.
    pub(crate) fn ports(self) -> BTreeSet<PortKey> {
        self.steered
    }

    /// Removes the states that have no member, at the end of the run.
    pub(crate) fn finish(self) {
        extended::remove_empty(self.steered);
    }
}
