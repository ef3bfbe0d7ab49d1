//! How a named run is, for those who ask.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sameport_policy::lifecycle;
use sameport_policy::lifecycle::InstanceId;
use sameport_policy::lifecycle::{Lifecycle, RequestFailure, RequestRefusal};
use sameport_policy::model::Address;
use sameport_sys::netlink;

use crate::control::protocol::{ListenStatus, RunStatus, WorkerPhase, WorkerStatus};
use crate::control::{RunInfo, client};
use crate::plan::NamedOptions;
use crate::pool::{AddressStatus, SocketPool};
use crate::processes;

/// Everything there is to know.
pub(crate) struct StatusFacts<'a> {
    pub(crate) named: &'a NamedOptions,
    pub(crate) about: &'a RunInfo,
    pub(crate) via: &'static str,
    pub(crate) private: bool,
    pub(crate) life: &'a Lifecycle,
    pub(crate) held: &'a SocketPool,
    pub(crate) pids: &'a BTreeMap<InstanceId, i32>,
    /// On the clock that `life` goes by.
    pub(crate) now: Duration,
}

impl StatusFacts<'_> {
    pub(crate) fn status(&self) -> RunStatus {
        let seen = self.held.status();
        let connections = self.connections();
        RunStatus {
            name: self.named.name.as_str().to_owned(),
            pid: std::process::id().cast_signed(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.about.since,
            command: self.about.command.clone(),
            directory: self.about.directory.clone(),
            via: self.via.to_owned(),
            copies: self.life.copies(),
            workers: self
                .life
                .report()
                .iter()
                .map(|seen| self.worker(seen, &connections))
                .collect(),
            addresses: seen.iter().map(|seen| self.listening(seen)).collect(),
            remarks: self.remarks(&seen),
        }
    }

    /// Open connections of every worker's processes, with one look for all.
    fn connections(&self) -> BTreeMap<InstanceId, u32> {
        let of = |start: &InstanceId| self.held.addresses(*start);
        let ports: BTreeSet<u16> = self.pids.keys().flat_map(of).map(|it| it.port()).collect();
        let ports: Vec<u16> = ports.into_iter().collect();
        let (starts, groups): (Vec<InstanceId>, Vec<Vec<i32>>) =
            processes::all(self.pids).into_iter().unzip();
        let counts = netlink::count_connections(&ports, &groups).unwrap_or_default();
        let counts = counts.into_iter().map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        starts.into_iter().zip(counts).collect()
    }

    fn worker(
        &self,
        seen: &lifecycle::WorkerReport,
        connections: &BTreeMap<InstanceId, u32>,
    ) -> WorkerStatus {
        let since = client::now();
        let passed = u64::try_from(self.now.saturating_sub(seen.since).as_millis());
        WorkerStatus {
            ordinal: seen.ordinal,
            pid: seen.instance.and_then(|start| self.pids.get(&start)).copied(),
            state: state(seen.state),
            since: since.saturating_sub(passed.unwrap_or_default()),
            restarts: seen.restarts,
            why: None,
            connections: seen.instance.and_then(|start| connections.get(&start)).copied(),
            addresses: seen
                .instance
                .map(|start| self.held.addresses(start))
                .unwrap_or_default()
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }

    fn listening(&self, seen: &AddressStatus) -> ListenStatus {
        let as_wanted = |why_not: &Option<String>| why_not.clone().map_or(Ok(()), Err);
        ListenStatus {
            protocol: seen.address.protocol.to_string(),
            address: seen.address.to_string(),
            members: u32::try_from(seen.members).unwrap_or(u32::MAX),
            queue: seen.waiting,
            backlog: seen.limit,
            held: as_wanted(&seen.not_held),
            steered: as_wanted(&seen.not_steered),
        }
    }

    fn remarks(&self, seen: &[AddressStatus]) -> Vec<String> {
        let unused = seen.iter().filter(|seen| seen.unused);
        let mut remarks: Vec<String> =
            unused.map(|seen| format!("no worker uses {}, which is held", seen.address)).collect();
        if self.private {
            remarks.push("nobody else can join its ports, root included (--private)".to_owned());
        }
        if !self.named.hold {
            remarks.push("sockets are not held (--no-hold)".to_owned());
        } else if self.via != "seccomp" {
            remarks.push(format!("sockets cannot be held by {}: see --via, --listen", self.via));
        }
        remarks
    }
}

/// Open connections of this start's processes.
pub(crate) fn connections(held: &SocketPool, start: InstanceId, first: i32) -> Option<u32> {
    let ports: BTreeSet<u16> = held.addresses(start).iter().map(Address::port).collect();
    let ports: Vec<u16> = ports.into_iter().collect();
    let counts =
        netlink::count_connections(&ports, &[processes::of(start, first, &held.own(start))])
            .ok()?;
    counts.first().and_then(|count| u32::try_from(*count).ok())
}

pub(crate) fn state(state: lifecycle::WorkerState) -> WorkerPhase {
    match state {
        lifecycle::WorkerState::Starting => WorkerPhase::Starting,
        lifecycle::WorkerState::Ready => WorkerPhase::Ready,
        lifecycle::WorkerState::Draining => WorkerPhase::Draining,
        lifecycle::WorkerState::Gone => WorkerPhase::Gone,
        lifecycle::WorkerState::Waiting => WorkerPhase::Waiting,
        lifecycle::WorkerState::GivenUp => WorkerPhase::GivenUp,
    }
}

/// Why a request is not begun, and what to do.
pub(crate) fn refusal(refusal: RequestRefusal) -> (&'static str, &'static str) {
    match refusal {
        RequestRefusal::Busy => (
            "another request is under way",
            "`sameport status` shows it; try again when it is done",
        ),
        RequestRefusal::Stopping => ("the run is stopping", "start it again when it has stopped"),
    }
}

/// Why a request was not carried out, and what to do.
pub(crate) fn failure(failed: RequestFailure) -> (String, &'static str) {
    match failed {
        RequestFailure::NotReady(ordinal, why) => (
            format!("the new worker {ordinal} did not get ready: {why}; the old ones serve on"),
            "its own output says more; --ready-timeout gives it longer",
        ),
        RequestFailure::Stopping => ("the run was stopped meanwhile".into(), "start it again"),
    }
}
