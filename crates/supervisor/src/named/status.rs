//! How a named run is, for those who ask.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sameport_policy::lifecycle;
use sameport_policy::lifecycle::slots::Start;
use sameport_policy::lifecycle::{Failed, Life, Refusal};
use sameport_policy::model::socket::Address;
use sameport_sys::inspect;

use super::Named;
use crate::control::protocol::{Listening, State, Status, Worker};
use crate::control::{About, client};
use crate::pool::{Held, Seen};
use crate::processes;

/// Everything there is to know.
pub(crate) struct Facts<'a> {
    pub(crate) named: &'a Named,
    pub(crate) about: &'a About,
    pub(crate) via: &'static str,
    pub(crate) private: bool,
    pub(crate) life: &'a Life,
    pub(crate) held: &'a Held,
    pub(crate) pids: &'a BTreeMap<Start, i32>,
    /// On the clock that `life` goes by.
    pub(crate) now: Duration,
}

impl Facts<'_> {
    pub(crate) fn status(&self) -> Status {
        let seen = self.held.seen();
        let connections = self.connections();
        Status {
            name: self.named.name.as_str().to_owned(),
            pid: std::process::id().cast_signed(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.about.since,
            command: self.about.command.clone(),
            directory: self.about.directory.clone(),
            via: self.via.to_owned(),
            copies: self.life.copies(),
            workers: self.life.seen().iter().map(|seen| self.worker(seen, &connections)).collect(),
            addresses: seen.iter().map(|seen| self.listening(seen)).collect(),
            remarks: self.remarks(&seen),
        }
    }

    /// Open connections of every worker's processes, with one look for all.
    fn connections(&self) -> BTreeMap<Start, u32> {
        let of = |start: &Start| self.held.addresses(*start);
        let ports: BTreeSet<u16> = self.pids.keys().flat_map(of).map(|it| it.port()).collect();
        let ports: Vec<u16> = ports.into_iter().collect();
        let (starts, groups): (Vec<Start>, Vec<Vec<i32>>) =
            processes::all(self.pids).into_iter().unzip();
        let counts = inspect::connections(&ports, &groups).unwrap_or_default();
        let counts = counts.into_iter().map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        starts.into_iter().zip(counts).collect()
    }

    fn worker(&self, seen: &lifecycle::Seen, connections: &BTreeMap<Start, u32>) -> Worker {
        let since = client::now();
        let passed = u64::try_from(self.now.saturating_sub(seen.since).as_millis());
        Worker {
            ordinal: seen.ordinal,
            pid: seen.start.and_then(|start| self.pids.get(&start)).copied(),
            state: state(seen.state),
            since: since.saturating_sub(passed.unwrap_or_default()),
            restarts: seen.restarts,
            why: None,
            connections: seen.start.and_then(|start| connections.get(&start)).copied(),
            addresses: seen
                .start
                .map(|start| self.held.addresses(start))
                .unwrap_or_default()
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }

    fn listening(&self, seen: &Seen) -> Listening {
        let as_wanted = |why_not: &Option<String>| why_not.clone().map_or(Ok(()), Err);
        Listening {
            protocol: seen.address.protocol.to_string(),
            address: seen.address.to_string(),
            members: u32::try_from(seen.members).unwrap_or(u32::MAX),
            queue: seen.waiting,
            backlog: seen.limit,
            held: as_wanted(&seen.not_held),
            steered: as_wanted(&seen.not_steered),
        }
    }

    fn remarks(&self, seen: &[Seen]) -> Vec<String> {
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
pub(crate) fn connections(held: &Held, start: Start, first: i32) -> Option<u32> {
    let ports: BTreeSet<u16> = held.addresses(start).iter().map(Address::port).collect();
    let ports: Vec<u16> = ports.into_iter().collect();
    let counts =
        inspect::connections(&ports, &[processes::of(start, first, &held.own(start))]).ok()?;
    counts.first().and_then(|count| u32::try_from(*count).ok())
}

pub(crate) fn state(state: lifecycle::State) -> State {
    match state {
        lifecycle::State::Starting => State::Starting,
        lifecycle::State::Ready => State::Ready,
        lifecycle::State::Draining => State::Draining,
        lifecycle::State::Gone => State::Gone,
        lifecycle::State::Waiting => State::Waiting,
        lifecycle::State::GivenUp => State::GivenUp,
    }
}

/// Why a request is not begun, and what to do.
pub(crate) fn refusal(refusal: Refusal) -> (&'static str, &'static str) {
    match refusal {
        Refusal::Busy => (
            "another request is under way",
            "`sameport status` shows it; try again when it is done",
        ),
        Refusal::Stopping => ("the run is stopping", "start it again when it has stopped"),
    }
}

/// Why a request was not carried out, and what to do.
pub(crate) fn failure(failed: Failed) -> (String, &'static str) {
    match failed {
        Failed::NotReady(ordinal, why) => (
            format!("the new worker {ordinal} did not get ready: {why}; the old ones serve on"),
            "its own output says more; --ready-timeout gives it longer",
        ),
        Failed::Stopping => ("the run was stopped meanwhile".into(), "start it again"),
    }
}
