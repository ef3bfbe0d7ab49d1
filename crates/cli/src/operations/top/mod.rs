//! `top`: looks at sockets, connections and runs, again and again.

pub(crate) mod actions;
pub(crate) mod feed;
mod runs;
mod states;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sameport_policy::bind::verdict::SharedPort;
use sameport_policy::model::{Member, Protocol};
use sameport_policy::top::{TopConnection, TopFrame, TopHistory, TopListener, TopLook, TopTraffic};
use sameport_policy::traffic::TrafficStatus;
use sameport_sys::inspect::{self, ConnectionOwners, InspectError, SocketQuery};
use sameport_sys::proc::passive_opens;

use super::list::Error;
use runs::{RunsWatch, SeenRun};
use workers::WorkerFinder;

/// How long one supervisor is waited for.
const SUPERVISOR_LIMIT: Duration = Duration::from_secs(1);
/// How long `--once` waits for all of them. A screen shows what it has.
const RUNS_LIMIT: Duration = Duration::from_secs(5);

/// What to look at.
#[derive(Debug, Clone)]
pub(crate) struct TopRequest {
    /// Only this port.
    pub(crate) on: Option<SharedPort>,
    /// The time between two looks.
    pub(crate) interval: Duration,
}

/// A frame, and what a user should know about it.
#[derive(Debug, Clone, Default)]
pub(crate) struct TopSample {
    pub(crate) frame: TopFrame,
    /// One line each.
    pub(crate) notes: Vec<String>,
}

/// Makes frames.
pub(crate) struct TopSource {
    request: TopRequest,
    start: Instant,
    owners: ConnectionOwners,
    runs: RunsWatch,
    workers: WorkerFinder,
    history: TopHistory,
}

impl TopSource {
    /// Begins to ask the supervisors of runs, in a thread: a supervisor that does not answer delays no look.
    pub(crate) fn new(request: TopRequest) -> Self {
        Self {
            runs: RunsWatch::start(request.interval, SUPERVISOR_LIMIT),
            request,
            start: Instant::now(),
            owners: ConnectionOwners::default(),
            workers: WorkerFinder::default(),
            history: TopHistory::default(),
        }
    }

    /// Waits for the first answers of supervisors, for a limited time.
    pub(crate) fn wait_for_runs(&self) {
        self.runs.wait(RUNS_LIMIT);
    }

    /// Asks the supervisors now: something has changed.
    fn ask_runs(&self) {
        self.runs.ask_soon();
    }

    /// Looks, and makes a frame of this look and those before.
    ///
    /// # Errors
    ///
    /// When the sockets cannot be listed.
    pub(crate) fn sample(&mut self) -> Result<TopSample, Error> {
        let runs = self.runs.seen();
        let look = self.look(&runs)?;
        let shown: BTreeSet<&str> = look
            .listeners
            .iter()
            .filter_map(|it| it.kept_by.as_deref().or(it.worker.as_ref().map(|it| &*it.run)))
            .collect();
        // With one port, only the runs that have it are of interest.
        let silent =
            runs.iter().filter(|it| self.request.on.is_none() || shown.contains(&*it.name));
        let mut notes: Vec<String> = silent.filter_map(|run| run.silent.clone()).collect();
        for traffic in look.traffic.iter().map(|it| &it.status) {
            let port = traffic.port;
            notes.extend(traffic.remarks.iter().map(|remark| format!("{port}: {remark}")));
        }
        Ok(TopSample { frame: self.history.add(&look), notes })
    }

    /// What the supervisors say about the ports that are shown.
    fn traffic(&self, runs: &[SeenRun]) -> Vec<TopTraffic> {
        let on = self.request.on;
        let is_shown = |status: &&TrafficStatus| {
            on.is_none_or(|on| {
                on.port == status.port && on.protocol.is_none_or(|it| it == status.protocol)
            })
        };
        let of_run = |run: &SeenRun| {
            let at = run.at.saturating_duration_since(self.start);
            let statuses = run.traffic.iter().filter(is_shown).cloned();
            statuses.map(|status| TopTraffic { at, status }).collect::<Vec<_>>()
        };
        runs.iter().flat_map(of_run).collect()
    }

    fn look(&mut self, runs: &[SeenRun]) -> Result<TopLook, Error> {
        let on = self.request.on;
        let protocol = on.and_then(|on| on.protocol);
        let query = SocketQuery {
            tcp: protocol != Some(Protocol::Udp),
            udp: protocol != Some(Protocol::Tcp),
            port: on.map(|on| on.port),
            ..SocketQuery::everything()
        };
        let snapshot = inspect::list_sockets(&query).map_err(failed)?;
        let supervisors: BTreeMap<i32, &SeenRun> = runs.iter().map(|run| (run.pid, run)).collect();
        self.workers.begin(runs);
        let listeners: Vec<TopListener> = snapshot
            .members
            .into_iter()
            .map(|member| listener(member, &supervisors, &mut self.workers))
            .collect();
        self.workers.end();
        let of_tcp = listeners.iter().filter(|it| it.address.protocol == Protocol::Tcp);
        let ports: BTreeSet<u16> = of_tcp.map(|it| it.address.port()).collect();
        let processes = listeners.iter().flat_map(|it| &it.processes);
        let pids: BTreeSet<i32> = processes.map(|process| process.pid).collect();
        let connections = match ports.is_empty() {
            true => Vec::new(),
            false => self.owners.look(&ports, &pids).map_err(failed)?,
        };
        let connections = connections.into_iter().map(|it| TopConnection {
            cookie: it.cookie,
            local: it.local,
            accepted: it.accepted,
            owner: it.owner,
        });
        let at = self.start.elapsed();
        let mut traffic = self.traffic(runs);
        states::add_counts(&mut traffic, &listeners, at);
        Ok(TopLook {
            at,
            listeners,
            connections: connections.collect(),
            passive_opens: passive_opens(),
            traffic,
            complete: snapshot.complete,
        })
    }
}

fn listener(
    member: Member,
    supervisors: &BTreeMap<i32, &SeenRun>,
    workers: &mut WorkerFinder,
) -> TopListener {
    let keeper = member.processes.iter().find_map(|process| supervisors.get(&process.pid));
    let mut processes = member.processes;
    processes.retain(|process| !supervisors.contains_key(&process.pid));
    let socket = member.socket;
    TopListener {
        worker: workers.find(socket.cookie, &processes),
        kept_by: keeper.map(|run| run.name.clone()),
        steered: member.position.map(|position| position.steered),
        processes,
        address: socket.address,
        cookie: socket.cookie,
        inode: socket.inode,
        queue: socket.queue,
        backlog: socket.backlog,
        drops: socket.drops,
    }
}

fn failed(error: InspectError) -> Error {
    match error {
        InspectError::Unsupported { .. } => Error::Machine(error.to_string()),
        error => Error::Look(error.to_string()),
    }
}
