//! The ends of workers: empty queues, finished connections, and what follows the stop signal.
//!
//! The rules are in `sameport_policy::drain`; this module reads the facts, for all draining workers at
//! once.

mod closer;
mod connections;
mod queues;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sameport_policy::drain::{DrainMode, DrainStep, DrainWatch, SelfDrain};
use sameport_policy::lifecycle::InstanceId;
use sameport_policy::lifecycle::exit::Exit;
use sameport_policy::model::Protocol;
use sameport_sys::process;
use sameport_sys::socket::CloseResult;

use crate::pool::SocketPool;
use closer::IdleCloser;
use connections::{ConnectionReading, ConnectionTracker, TrackedWorker, count_open};
use queues::{LiveQueues, QueueReading};

/// Interval of readings before the stop signal. A reading between a request and its answer tells their
/// order, which the kernel's times often do not.
const INTERVAL: Duration = Duration::from_millis(5);

/// Interval of readings after the stop signal.
const SLOW_INTERVAL: Duration = Duration::from_millis(20);

/// The interval is at least this multiple of the time that a reading takes.
const COST: u32 = 8;

/// The longest pause that the cost of a reading causes, unless the reading takes longer: on a busy machine
/// it takes long without costing much.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Interval of progress reports.
const PROGRESS: Duration = Duration::from_secs(1);

/// Failed readings after which connections are not known, and not waited for.
const FAILURES: u32 = 3;

#[derive(Debug)]
pub(crate) struct Drains {
    draining: BTreeMap<InstanceId, Draining>,
    tracker: ConnectionTracker,
    live: LiveQueues,
    closer: IdleCloser,
    next: Duration,
    failures: u32,
    /// Ends of drains that are not reported yet.
    cut: BTreeMap<InstanceId, String>,
}

/// A worker that drains or ends.
#[derive(Debug)]
struct Draining {
    worker: TrackedWorker,
    mode: DrainMode,
    watch: DrainWatch,
    stage: Stage,
    /// The last step.
    step: DrainStep,
    next_report: Duration,
}

#[derive(Debug)]
enum Stage {
    /// Until the accept queue is empty.
    Queue { was_empty: bool },
    /// Until the connections are finished.
    Connections,
    /// After the stop signal.
    Signalled(SelfDrain),
    /// The first process has ended, and its children finish their connections.
    Children,
    /// The children have the stop signal; it cuts this number of connections.
    Finished { cut: usize },
}

/// The end of a drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EndedDrain {
    /// Number of connections that the end of the worker cut.
    pub(crate) cut: usize,
    /// Whether the worker has finished its connections after the stop signal by itself.
    pub(crate) is_proven: bool,
}

/// A change of a worker that drains.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DrainEvent {
    /// The worker may get the stop signal.
    Drained(InstanceId),
    /// Children that outlived the first process have no connections any more.
    ChildrenFinished(InstanceId),
    /// Numbers of connections: open, in hand.
    Progress(InstanceId, usize, usize),
}

impl Default for Drains {
    fn default() -> Self {
        Self {
            draining: BTreeMap::new(),
            tracker: ConnectionTracker::default(),
            live: LiveQueues::default(),
            closer: IdleCloser::new(),
            next: Duration::ZERO,
            failures: 0,
            cut: BTreeMap::new(),
        }
    }
}

impl Drains {
    /// Begins the drain of a worker with this first process.
    pub(crate) fn begin(
        &mut self,
        start: InstanceId,
        first: i32,
        watch: DrainWatch,
        pool: &SocketPool,
    ) {
        let stage = Stage::Queue { was_empty: false };
        let draining = Draining::new(first, watch, stage, pool.tcp_ports(start));
        self.draining.insert(start, draining);
        self.next = Duration::ZERO;
    }

    /// The worker gets the stop signal.
    pub(crate) fn signalled(&mut self, start: InstanceId, now: Duration) {
        let Some(draining) = self.draining.get_mut(&start) else { return };
        draining.stage = match draining.stage {
            Stage::Children => Stage::Finished { cut: draining.step.open },
            Stage::Finished { cut } => Stage::Finished { cut },
            _ if draining.mode == DrainMode::None => return drop(self.draining.remove(&start)),
            _ => {
                let DrainStep { open, unanswered, .. } = draining.step;
                Stage::Signalled(SelfDrain::new(open, unanswered, now))
            }
        };
    }

    /// The first process of a worker has ended. If these children have connections, watches them
    /// until they end.
    pub(crate) fn outlived(
        &mut self,
        start: InstanceId,
        children: &[i32],
        watch: DrainWatch,
        pool: &SocketPool,
    ) -> bool {
        let draining = self.draining.remove(&start);
        let ports = draining.as_ref().map(|it| it.worker.ports.clone());
        let ports = ports.unwrap_or_else(|| pool.tcp_ports(start));
        if count_open(&ports, children).unwrap_or(0) == 0 {
            self.draining.extend(draining.map(|draining| (start, draining)));
            return false;
        }
        let draining = match draining {
            Some(mut draining) => {
                draining.worker.first = 0;
                Draining { stage: Stage::Children, ..draining }
            }
            None => Draining::new(0, watch, Stage::Children, ports),
        };
        self.draining.insert(start, draining);
        self.tracker.scan_next();
        self.next = Duration::ZERO;
        true
    }

    /// Forgets a worker that ended.
    pub(crate) fn ended(&mut self, start: InstanceId, exit: Exit, now: Duration) -> EndedDrain {
        let Some(draining) = self.draining.remove(&start) else { return EndedDrain::default() };
        let (cut, is_proven) = match draining.stage {
            Stage::Signalled(end) if draining.mode == DrainMode::All => {
                (end.cut_of(draining.step.open, exit, now), end.is_proven())
            }
            Stage::Signalled(end) => {
                (end.cut_of(draining.step.unanswered, exit, now), end.is_proven())
            }
            Stage::Finished { cut } => (cut, false),
            Stage::Queue { .. } | Stage::Connections | Stage::Children => (0, false),
        };
        if cut > 0 {
            let were = if cut == 1 { "connection was" } else { "connections were" };
            let after = now.saturating_sub(draining.watch.since()).as_secs();
            self.cut.insert(start, format!("{cut} {were} cut after {after} s"));
        }
        EndedDrain { cut, is_proven }
    }

    /// Takes the sentence about the connections that the end of a worker cut.
    pub(crate) fn take_cut(&mut self, start: InstanceId) -> Option<String> {
        self.cut.remove(&start)
    }

    /// Whether the worker has no stop signal yet, and will get one.
    pub(crate) fn contains(&self, start: InstanceId) -> bool {
        self.draining.get(&start).is_some_and(Draining::is_before_signal)
    }

    /// Whether no worker waits for its stop signal.
    pub(crate) fn is_empty(&self) -> bool {
        !self.draining.values().any(Draining::is_before_signal)
    }

    /// Whether children of a first process that ended finish their connections.
    pub(crate) fn has_children(&self) -> bool {
        let mut stages = self.draining.values().map(|draining| &draining.stage);
        stages.any(|stage| matches!(stage, Stage::Children | Stage::Finished { .. }))
    }

    /// Number of workers that wait for their stop signal.
    pub(crate) fn len(&self) -> usize {
        self.draining.values().filter(|draining| draining.is_before_signal()).count()
    }

    pub(crate) fn next_wake(&self) -> Option<Duration> {
        (!self.draining.is_empty()).then_some(self.next)
    }

    /// The live workers that do not accept: see [`LiveQueues::stalled`].
    pub(crate) fn stalled(
        &mut self,
        live: &BTreeSet<InstanceId>,
        pool: &SocketPool,
    ) -> Vec<(InstanceId, u32)> {
        self.live.stalled(live, pool)
    }

    /// The live workers that left connections in their queues in every recent round.
    pub(crate) fn not_accepting(&self) -> BTreeSet<InstanceId> {
        self.live.not_accepting()
    }

    /// Reads queues and connections, if it is time.
    pub(crate) fn attend(&mut self, pool: &SocketPool, now: Duration) -> Vec<DrainEvent> {
        if self.draining.is_empty() || now < self.next {
            return Vec::new();
        }
        let begun = Instant::now();
        for (start, id, result) in self.closer.results() {
            let Some(draining) = self.draining.get_mut(&start) else { continue };
            match result {
                CloseResult::ShutDown => {}
                CloseResult::InUse => draining.watch.in_use(id),
                CloseResult::Failed => draining.watch.not_closed(id),
            }
        }
        let mut events = Vec::new();
        self.read_queues(pool, now, &mut events);
        self.read_connections(pool, now, &mut events);
        let interval = if self.is_empty() { SLOW_INTERVAL } else { INTERVAL };
        let elapsed = begun.elapsed();
        let pause = (elapsed * COST).min(elapsed.max(LONGEST_PAUSE));
        self.next = now + elapsed + interval.max(pause);
        events
    }

    fn read_queues(&mut self, pool: &SocketPool, now: Duration, events: &mut Vec<DrainEvent>) {
        let mut reading = QueueReading::default();
        for (start, draining) in &mut self.draining {
            let Stage::Queue { was_empty } = draining.stage else { continue };
            let elapsed = now.saturating_sub(draining.watch.since());
            let is_empty = reading.is_empty(*start, pool, elapsed);
            // For a moment a connection is neither a handshake nor in the queue, so two readings must
            // agree.
            let is_done = is_empty && was_empty;
            draining.stage = Stage::Queue { was_empty: is_empty };
            if now >= draining.watch.deadline() || is_done && draining.mode == DrainMode::None {
                events.push(DrainEvent::Drained(*start));
            } else if is_done {
                draining.stage = Stage::Connections;
                self.tracker.scan_next();
            }
        }
    }

    fn read_connections(&mut self, pool: &SocketPool, now: Duration, events: &mut Vec<DrainEvent>) {
        let tracked = self.draining.iter().filter(|(_, draining)| draining.has_connections());
        let tracked: BTreeMap<InstanceId, TrackedWorker> =
            tracked.map(|(start, draining)| (*start, draining.worker.clone())).collect();
        if tracked.is_empty() {
            return;
        }
        let reading = match self.tracker.read(&tracked, pool, now) {
            Ok(reading) => {
                self.failures = 0;
                reading
            }
            Err(_) if self.failures < FAILURES => {
                self.failures += 1;
                return;
            }
            // Connections are not known here: as if there were none.
            Err(_) => ConnectionReading { is_complete: true, ..ConnectionReading::default() },
        };
        let mut is_unsure = false;
        let mut to_close = Vec::new();
        for start in tracked.keys() {
            let Some(draining) = self.draining.get_mut(start) else { continue };
            let connections = reading.of.get(start).map_or(&[][..], Vec::as_slice);
            let step = draining.watch.observe(connections, now);
            if matches!(draining.stage, Stage::Connections) {
                let idle = step.close.iter().filter_map(|id| Some((*id, self.tracker.idle(*id)?)));
                to_close.extend(idle.map(|(id, connection)| (*start, id, connection)));
            }
            let end = draining.take(step, now);
            let is_late = now >= draining.watch.deadline();
            match end {
                // The worker may have a connection whose owner was not looked up.
                Some(_) if !reading.is_complete && !is_late => is_unsure = true,
                Some(end) => events.push(end(*start)),
                None => {}
            }
            events.extend(draining.progress(*start, now));
        }
        self.closer.close(to_close);
        if is_unsure {
            self.tracker.scan_next();
        }
    }
}

impl Draining {
    fn new(first: i32, watch: DrainWatch, stage: Stage, ports: BTreeSet<u16>) -> Self {
        Self {
            worker: TrackedWorker { first, ports },
            mode: watch.mode(),
            watch,
            stage,
            step: DrainStep::default(),
            next_report: Duration::ZERO,
        }
    }

    fn is_before_signal(&self) -> bool {
        matches!(self.stage, Stage::Queue { .. } | Stage::Connections)
    }

    /// Whether its connections are of interest.
    fn has_connections(&self) -> bool {
        !matches!(self.stage, Stage::Queue { .. })
    }

    /// Takes a step. Gives the event if the stage is over.
    fn take(&mut self, step: DrainStep, now: Duration) -> Option<fn(InstanceId) -> DrainEvent> {
        let (open, unanswered, is_over) = (step.open, step.unanswered, step.is_over);
        self.step = step;
        match &mut self.stage {
            Stage::Connections if is_over => Some(DrainEvent::Drained),
            Stage::Signalled(end) => {
                if !process::is_exiting(self.worker.first) {
                    end.observe(open, unanswered, now);
                }
                None
            }
            Stage::Children if open == 0 => Some(DrainEvent::ChildrenFinished),
            _ => None,
        }
    }

    fn progress(&mut self, start: InstanceId, now: Duration) -> Option<DrainEvent> {
        if !matches!(self.stage, Stage::Connections) || now < self.next_report {
            return None;
        }
        self.next_report = now + PROGRESS;
        Some(DrainEvent::Progress(start, self.step.open, self.step.in_hand))
    }
}

impl SocketPool {
    /// The TCP ports that a worker listens on.
    fn tcp_ports(&self, start: InstanceId) -> BTreeSet<u16> {
        let addresses = self.addresses(start).into_iter();
        let tcp = addresses.filter(|address| address.protocol == Protocol::Tcp);
        tcp.map(|address| address.port()).collect()
    }
}
