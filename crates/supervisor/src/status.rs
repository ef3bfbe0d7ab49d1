//! The status of a named run, and the words for refused and failed requests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sameport_policy::lifecycle::{
    BusyRequest, CanaryEnd, CanaryOutcome, InstanceId, Lifecycle, RequestFailure, RequestKind,
    RequestRefusal, WorkerReport, WorkerState,
};
use sameport_policy::model::Address;
use sameport_sys::netlink;

use crate::control::canary::{CanaryState, CanaryStatus};
use crate::control::counters::RunCounters;
use crate::control::protocol::{
    LeavingStatus, ListenStatus, RunStatus, WorkerHistory, WorkerPhase, WorkerStatus,
    WorkerTreatment,
};
use crate::control::{RunInfo, client};
use crate::narrower;
use crate::plan::{NamedOptions, WorkerOutput};
use crate::pool::{AddressStatus, SocketPool};
use crate::worker_ends::WorkerEnds;
use crate::workers::WorkerCommand;

/// The sources of the status.
pub(crate) struct StatusFacts<'a> {
    pub(crate) options: &'a NamedOptions,
    pub(crate) output: &'a WorkerOutput,
    pub(crate) info: &'a RunInfo,
    pub(crate) interposer: &'static str,
    pub(crate) private: bool,
    pub(crate) lifecycle: &'a Lifecycle,
    pub(crate) commands: &'a [WorkerCommand],
    pub(crate) pool: &'a SocketPool,
    /// First processes.
    pub(crate) pids: &'a BTreeMap<InstanceId, i32>,
    pub(crate) ends: &'a WorkerEnds,
    pub(crate) counters: &'a RunCounters,
    /// Time on the clock of the lifecycle.
    pub(crate) now: Duration,
}

impl StatusFacts<'_> {
    pub(crate) fn status(&self) -> RunStatus {
        let addresses = self.pool.status();
        let connections = self.connections();
        let workers = self.lifecycle.report();
        RunStatus {
            name: self.options.name.as_str().to_owned(),
            pid: std::process::id().cast_signed(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.info.since,
            command: self.info.command.clone(),
            directory: self.info.directory.clone(),
            via: self.interposer.to_owned(),
            copies: self.lifecycle.copies(),
            workers: workers.iter().map(|worker| self.worker(worker, &connections)).collect(),
            addresses: addresses.iter().map(address_status).collect(),
            remarks: self.remarks(&addresses),
            treatment: WorkerTreatment {
                traffic: Vec::new(),
                counters: self.counters.clone(),
                drain: Some(self.options.settings.drain.name().to_owned()),
                drains_itself: self.drains_itself(),
                log: self.output.log_file().map(Into::into),
                service: self.info.service.clone(),
                canary: self.canary(),
                start: None,
                leaving: self.leaving(),
            },
        }
    }

    /// Number of open connections of each worker.
    fn connections(&self) -> BTreeMap<InstanceId, u32> {
        let addresses = self.pids.keys().flat_map(|start| self.pool.addresses(*start));
        let ports: BTreeSet<u16> = addresses.map(|address| address.port()).collect();
        let ports: Vec<u16> = ports.into_iter().collect();
        let snapshot = self.pool.processes().snapshot();
        let groups = self.pids.keys().map(|start| (*start, snapshot.of(*start).to_vec()));
        let (starts, groups): (Vec<InstanceId>, Vec<Vec<i32>>) = groups.unzip();
        let counts = netlink::count_connections(&ports, &groups).unwrap_or_default();
        let counts = counts.into_iter().map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        starts.into_iter().zip(counts).collect()
    }

    fn worker(
        &self,
        worker: &WorkerReport,
        connections: &BTreeMap<InstanceId, u32>,
    ) -> WorkerStatus {
        let start = worker.instance;
        let addresses = start.map(|start| self.pool.addresses(start)).unwrap_or_default();
        WorkerStatus {
            ordinal: worker.ordinal,
            canary: worker.canary,
            pid: start.and_then(|start| self.pids.get(&start)).copied(),
            state: phase(worker.state),
            since: wall_clock(worker.since, self.now),
            restarts: worker.restarts,
            why: worker.reason.clone(),
            connections: start.and_then(|start| connections.get(&start)).copied(),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            history: WorkerHistory {
                next_start: worker.next_start.map(|at| wall_clock(at, self.now)),
                last_end: worker.last_end.as_ref().map(|(_, reason)| reason.to_string()),
                last_end_at: worker.last_end.as_ref().map(|(at, _)| wall_clock(*at, self.now)),
                output: self.ends.output(worker.ordinal).to_vec(),
            },
        }
    }

    /// Whether the command that serves is known to drain by itself.
    fn drains_itself(&self) -> bool {
        let command = self.lifecycle.serving_command();
        command.is_some_and(|command| self.lifecycle.drains_itself(command))
    }

    /// The canary, or the last one unless it was promoted.
    fn canary(&self) -> Option<CanaryStatus> {
        let at = |time| wall_clock(time, self.now);
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (command, state) = match (self.lifecycle.canary(), self.lifecycle.canary_end()) {
            (Some(canary), _) => {
                let state = CanaryState::Active {
                    share: canary.share,
                    workers: self.lifecycle.canary_copies(),
                    since: canary.since.map(at),
                    promotes_at: canary.promotes_at().map(at),
                    promotes_after: canary.promotes_after.map(milliseconds),
                };
                (canary.command, state)
            }
            (None, Some(CanaryEnd { at: time, command, outcome })) => {
                let why = match outcome {
                    CanaryOutcome::Promoted { .. } => return None,
                    CanaryOutcome::RolledBack => None,
                    CanaryOutcome::Failed(ordinal, why) => Some(format!("canary {ordinal}: {why}")),
                };
                (*command, CanaryState::RolledBack { at: at(*time), why })
            }
            (None, None) => return None,
        };
        let WorkerCommand { words, launch } = self.commands.get(command)?.clone();
        let directory = launch.directory.unwrap_or_else(|| self.options.directory.clone());
        Some(CanaryStatus { command: words, directory: directory.into(), state })
    }

    fn leaving(&self) -> Option<LeavingStatus> {
        let stops_at = self.lifecycle.stops_at();
        let is_leaving = stops_at.is_some() || self.lifecycle.is_stopping();
        is_leaving.then(|| LeavingStatus { stops_at: stops_at.map(|at| wall_clock(at, self.now)) })
    }

    fn remarks(&self, addresses: &[AddressStatus]) -> Vec<String> {
        let unused = addresses.iter().filter(|status| status.unused);
        let mut remarks: Vec<String> = unused
            .map(|status| format!("no worker uses {}, which is held", status.address))
            .collect();
        if self.private {
            remarks.push("nobody else can join its ports, root included (--private)".to_owned());
        }
        if !self.options.hold {
            remarks.push("sockets are not held (--no-hold)".to_owned());
        } else if self.interposer != "seccomp" {
            remarks.push(format!(
                "sockets cannot be held by {}: see --via, --listen",
                self.interposer
            ));
        }
        let own: Vec<Address> = addresses.iter().map(|status| status.address.clone()).collect();
        remarks.extend(narrower::remarks(&own, |inode| self.pool.is_held(inode)));
        remarks
    }
}

fn address_status(status: &AddressStatus) -> ListenStatus {
    let result = |why_not: &Option<String>| why_not.clone().map_or(Ok(()), Err);
    ListenStatus {
        protocol: status.address.protocol.to_string(),
        address: status.address.to_string(),
        members: u32::try_from(status.members).unwrap_or(u32::MAX),
        queue: status.waiting,
        backlog: status.limit,
        held: result(&status.not_held),
        steered: result(&status.not_steered),
    }
}

/// A time of the run's clock, which shows `now`, in milliseconds since 1970.
pub(crate) fn wall_clock(at: Duration, now: Duration) -> u64 {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let past = client::now().saturating_sub(milliseconds(now.saturating_sub(at)));
    past.saturating_add(milliseconds(at.saturating_sub(now)))
}

/// Number of open connections of one worker.
pub(crate) fn connections(pool: &SocketPool, start: InstanceId) -> Option<u32> {
    let ports: BTreeSet<u16> = pool.addresses(start).iter().map(Address::port).collect();
    let ports: Vec<u16> = ports.into_iter().collect();
    let pids = pool.processes().of(start, &pool.own(start));
    let counts = netlink::count_connections(&ports, &[pids]).ok()?;
    counts.first().and_then(|count| u32::try_from(*count).ok())
}

/// The state in the control protocol.
pub(crate) fn phase(state: WorkerState) -> WorkerPhase {
    match state {
        WorkerState::Starting => WorkerPhase::Starting,
        WorkerState::Ready => WorkerPhase::Ready,
        WorkerState::Draining => WorkerPhase::Draining,
        WorkerState::Gone => WorkerPhase::Gone,
        WorkerState::Waiting => WorkerPhase::Waiting,
        WorkerState::GivenUp => WorkerPhase::GivenUp,
    }
}

/// Why a run that is announced as leaving is not changed, and a hint.
pub(crate) const LEAVES: (&str, &str) = (
    "the run leaves, as `sameport stop --announce` asked",
    "start it again when it has stopped; `sameport stop NAME` stops it at once",
);

/// Why a request is refused, and a hint. `pids`: first processes.
pub(crate) fn refusal(
    refusal: RequestRefusal,
    pids: &BTreeMap<InstanceId, i32>,
    now: Duration,
) -> (String, &'static str) {
    match refusal {
        RequestRefusal::Busy(busy) => {
            (busy_text(&busy, pids, now), "`sameport status` shows it; try again when it is done")
        }
        RequestRefusal::Stopping => (
            "the run is stopping".into(),
            "start it again when it has stopped; `sameport stop --now` ends its drains",
        ),
        RequestRefusal::Leaving => (LEAVES.0.into(), LEAVES.1),
        RequestRefusal::Canary => (
            "the run has a canary".into(),
            "end it first: `sameport upgrade NAME --promote`, or `--rollback`",
        ),
        RequestRefusal::NoCanary => (
            "the run has no canary".into(),
            "`sameport upgrade NAME --canary 10% -- COMMAND` starts one",
        ),
    }
}

/// `a restart is under way since 12 s: worker 2 (pid 4566) is starting, for at most 18 s more`.
fn busy_text(busy: &BusyRequest, pids: &BTreeMap<InstanceId, i32>, now: Duration) -> String {
    let kind = match busy.kind {
        RequestKind::Restart => "a restart",
        RequestKind::Upgrade => "an upgrade",
        RequestKind::Scale => "a change of the number of workers",
        RequestKind::Canary => "the start of a canary",
        RequestKind::Promotion => "the promotion of the canary",
    };
    let since = now.saturating_sub(busy.since).as_secs();
    let text = format!("{kind} is under way since {since} s");
    let Some(wait) = busy.waits_for else { return text };
    let pid = wait.instance.and_then(|start| pids.get(&start));
    let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    let does = match wait.state {
        WorkerState::Starting => "is starting",
        WorkerState::Draining => "is ending",
        _ => "waits for its next start",
    };
    let most = match wait.until {
        Some(until) => {
            // Rounded up: at most means at most.
            let left = until.saturating_sub(now).as_millis().div_ceil(1000);
            format!("for at most {left} s more")
        }
        None => "without a time limit".to_owned(),
    };
    format!("{text}: worker {}{pid} {does}, {most}", wait.ordinal)
}

/// Why a request failed, and a hint.
pub(crate) fn failure(failure: &RequestFailure) -> (String, &'static str) {
    match failure {
        RequestFailure::NotReady(ordinal, why) => (
            format!("worker {ordinal} was not replaced: {why}"),
            "`sameport status` shows the workers that serve; the output of the new one, in --log FILE if \
             given, says more",
        ),
        RequestFailure::Stopping => ("the run was stopped meanwhile".into(), "start it again"),
        RequestFailure::Canary(ordinal, why) => (
            format!("the canary is rolled back: canary {ordinal}: {why}"),
            "the output of its workers, in --log FILE if given, says more",
        ),
        RequestFailure::RolledBack => (
            "the canary was rolled back meanwhile".into(),
            "`sameport status` shows the workers that serve",
        ),
    }
}
