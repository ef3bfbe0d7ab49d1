//! The life of workers: starting, ready, draining, gone; and what is to be done about it.
//!
//! A state machine. What happened goes in with the time it happened at, orders come out; nothing here
//! waits, starts or kills. Times count from any fixed moment.
//!
//! A worker has an ordinal, 1 to N, for as long as it is wanted. Its processes come and go: each is a
//! [`Start`]. One *serves*; while it is being replaced another one is *coming*; and those that were
//! told to go are *leaving*.

pub mod exit;
#[cfg(test)]
mod histories;
mod instance;
mod model;
mod report;
mod request;
pub mod slots;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::lifecycle::exit::Exit;
pub use crate::lifecycle::slots::InstanceId;
use instance::{Instance, PAUSE, Pause, Phase, Slot, pause};
pub use model::{
    Action, ChangeReason, LifecycleSettings, RequestFailure, RunOutcome, WorkerChange, WorkerState,
};
pub use report::WorkerReport;
use request::ActiveRequest;
pub use request::{RequestRefusal, RunRequest};
pub use snapshot::{ServingWorker, Snapshot};

/// How many crashes in a row are too many.
pub const MOST_CRASHES: u32 = 6;

/// A worker that was ready for so long starts a new row when it crashes.
pub const STABLE: Duration = Duration::from_secs(1);

const SIGKILL: u8 = 9;

/// A worker that is starting and listens on nothing for so long is told of; and one that is ready may
/// open more addresses for so long, which its successors must have too.
const SILENCE: Duration = Duration::from_secs(5);

/// All workers of a run.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    settings: LifecycleSettings,
    seats: BTreeMap<u16, Slot>,
    processes: BTreeMap<InstanceId, Instance>,
    work: Option<ActiveRequest>,
    last_start: InstanceId,
    stopping: bool,
    /// Its end has been ordered.
    over: bool,
}

impl Lifecycle {
    /// A run of which nothing has been started.
    #[must_use]
    pub fn new(settings: LifecycleSettings) -> Self {
        Self {
            settings,
            seats: BTreeMap::new(),
            processes: BTreeMap::new(),
            work: None,
            last_start: 0,
            stopping: false,
            over: false,
        }
    }

    /// Starts every worker.
    pub fn begin(&mut self, now: Duration) -> Vec<Action> {
        let mut orders = Vec::new();
        for ordinal in 1..=self.settings.copies {
            self.seats.insert(ordinal, Slot::default());
            self.start(ordinal, now, &mut orders);
        }
        orders
    }

    /// Processes that may get new connections: those that serve.
    #[must_use]
    pub fn live(&self) -> BTreeSet<InstanceId> {
        let serving = self.seats.values().filter_map(|seat| seat.serving);
        serving.filter(|start| self.phase(*start) == Some(Phase::Ready)).collect()
    }

    fn phase(&self, start: InstanceId) -> Option<Phase> {
        self.processes.get(&start).map(|process| process.phase)
    }

    /// How many workers are wanted.
    #[must_use]
    pub fn copies(&self) -> u16 {
        self.settings.copies
    }

    /// Whether the run is on its way to its end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether no process is coming, or will by itself, that may want what others left behind.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        // Whoever was given up does not come by itself.
        let is_settled = |seat: &Slot| match seat.serving {
            Some(_) => seat.coming.is_none(),
            None => seat.coming.is_none() && matches!(seat.pause, Some(Pause::ForEver(_))),
        };
        self.work.is_none() && self.seats.values().all(is_settled)
    }

    /// Whether the processes of some worker are to listen on this address.
    #[must_use]
    pub fn expects(&self, address: &str) -> bool {
        self.seats.values().any(|seat| seat.addresses.contains(address))
    }

    /// Processes that are not ready, and were not told to end.
    #[must_use]
    pub fn starting(&self) -> Vec<InstanceId> {
        let starting = |process: &Instance| process.phase.state() == WorkerState::Starting;
        let starting = self.processes.iter().filter(|(_, process)| starting(process));
        starting.map(|(start, _)| *start).collect()
    }

    /// Whether a process was told to end, or is about to be.
    #[must_use]
    pub fn is_leaving(&self, start: InstanceId) -> bool {
        self.phase(start).is_some_and(Phase::is_leaving)
    }

    /// Which command a process runs.
    #[must_use]
    pub fn command(&self, start: InstanceId) -> Option<usize> {
        self.processes.get(&start).map(|process| process.command)
    }

    /// When to call [`Self::tick`] next.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let pauses = self.seats.values().filter_map(|seat| match seat.pause {
            Some(Pause::Until(until)) if seat.coming.is_none() && !self.stopping => Some(until),
            _ => None,
        });
        self.processes.values().filter_map(|process| self.due(process)).chain(pauses).min()
    }

    fn due(&self, process: &Instance) -> Option<Duration> {
        match process.phase {
            Phase::Starting { .. } => {
                let silence = process.is_silent().then_some(process.since + SILENCE);
                let ready = process.since + self.settings.ready_within;
                [silence, process.must_get_ready().then_some(ready)].into_iter().flatten().min()
            }
            Phase::Told { until } => Some(until),
            Phase::Ready | Phase::Draining | Phase::Killed => None,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        let mut orders = Vec::new();
        let late: Vec<InstanceId> = self
            .processes
            .iter()
            .filter(|(_, process)| self.due(process).is_some_and(|due| due <= now))
            .map(|(start, _)| *start)
            .collect();
        for start in late {
            self.overdue(start, now, &mut orders);
        }
        let rested = |seat: &Slot| matches!(seat.pause, Some(Pause::Until(until)) if until <= now);
        let idle: Vec<u16> = self
            .seats
            .iter()
            .filter(|(_, seat)| rested(seat) && seat.coming.is_none())
            .map(|(ordinal, _)| *ordinal)
            .collect();
        for ordinal in idle {
            if !self.stopping {
                self.start(ordinal, now, &mut orders);
            }
        }
        self.go_on(now, &mut orders);
        orders
    }

    fn overdue(&mut self, start: InstanceId, now: Duration, orders: &mut Vec<Action>) {
        let ready_within = self.settings.ready_within;
        let Some(process) = self.processes.get_mut(&start) else { return };
        let ordinal = process.ordinal;
        let tell = |state, why| {
            Action::Tell(WorkerChange { ordinal, start: Some(start), state, why: Some(why) })
        };
        match process.phase {
            Phase::Starting { .. } => {
                if process.is_silent() && now >= process.since + SILENCE {
                    process.silence_told = true;
                    orders.push(tell(WorkerState::Starting, ChangeReason::Silent));
                }
                if process.must_get_ready() && now >= process.since + ready_within {
                    let listens = process.listens.intersection(&process.wanted).count();
                    let why = ChangeReason::NotReady { listens, wanted: process.wanted.len() };
                    self.did_not_get_ready(start, why, now, orders);
                }
            }
            Phase::Told { .. } => {
                process.phase = Phase::Killed;
                orders.extend([
                    tell(WorkerState::Draining, ChangeReason::Killed),
                    Action::Kill(start),
                ]);
            }
            Phase::Ready | Phase::Draining | Phase::Killed => {}
        }
    }

    /// Starts this worker, in the place of the one that serves, if one does.
    fn start(&mut self, ordinal: u16, now: Duration, orders: &mut Vec<Action>) {
        let Some(seat) = self.seats.get_mut(&ordinal) else { return };
        self.last_start += 1;
        let start = self.last_start;
        seat.coming = Some(start);
        seat.pause = None;
        let (command, predecessor) = (seat.command, seat.serving);
        let process = Instance {
            ordinal,
            command,
            since: now,
            phase: Phase::Starting { probed: false },
            listens: BTreeSet::new(),
            wanted: seat.addresses.clone(),
            silence_told: false,
        };
        self.processes.insert(start, process);
        orders.push(Action::Start { start, ordinal, command, predecessor });
    }

    /// The command could not be started.
    pub fn not_started(&mut self, start: InstanceId, now: Duration) -> Vec<Action> {
        self.gone(start, ChangeReason::NotStarted, Exit::Code(127), now)
    }

    /// It was started, as this process.
    pub fn started(&self, start: InstanceId) -> Vec<Action> {
        self.tell(start, None).into_iter().collect()
    }

    fn tell(&self, start: InstanceId, why: Option<ChangeReason>) -> Option<Action> {
        let process = self.processes.get(&start)?;
        let (ordinal, state) = (process.ordinal, process.phase.state());
        Some(Action::Tell(WorkerChange { ordinal, start: Some(start), state, why }))
    }

    /// It listens on this address.
    pub fn listens(&mut self, start: InstanceId, address: String, now: Duration) -> Vec<Action> {
        let Some(process) = self.processes.get_mut(&start) else { return Vec::new() };
        process.listens.insert(address.clone());
        let complete = process.listens.is_superset(&process.wanted);
        let ordinal = process.ordinal;
        match process.phase {
            Phase::Starting { ref mut probed } if complete && !*probed => {
                *probed = true;
                vec![Action::Probe(start)]
            }
            Phase::Ready if now < process.since + SILENCE => {
                if let Some(seat) = self.seats.get_mut(&ordinal) {
                    seat.addresses.insert(address);
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// It answered: it is ready.
    pub fn ready(&mut self, start: InstanceId, now: Duration) -> Vec<Action> {
        let mut orders = Vec::new();
        let Some(process) = self.processes.get_mut(&start) else { return orders };
        if !matches!(process.phase, Phase::Starting { .. }) {
            return orders;
        }
        process.phase = Phase::Ready;
        process.since = now;
        let (ordinal, addresses) = (process.ordinal, process.listens.clone());
        orders.extend(self.tell(start, None));
        orders.push(Action::Steer);
        self.is_ready(ordinal, start, addresses, now, &mut orders);
        orders
    }

    /// Its queue is empty.
    pub fn drained(&mut self, start: InstanceId, now: Duration) -> Vec<Action> {
        let grace = self.settings.grace;
        match self.processes.get_mut(&start) {
            Some(process) if process.phase == Phase::Draining => {
                process.phase = Phase::Told { until: now + grace };
                vec![Action::Terminate(start)]
            }
            _ => Vec::new(),
        }
    }

    /// Its first process has ended.
    pub fn ended(&mut self, start: InstanceId, exit: Exit, now: Duration) -> Vec<Action> {
        self.gone(start, ChangeReason::Ended(exit), exit, now)
    }

    fn gone(
        &mut self,
        start: InstanceId,
        why: ChangeReason,
        exit: Exit,
        now: Duration,
    ) -> Vec<Action> {
        let mut orders = Vec::new();
        let Some(process) = self.processes.remove(&start) else { return orders };
        let change =
            |state, start| WorkerChange { ordinal: process.ordinal, start, state, why: Some(why) };
        orders.push(Action::Tell(change(WorkerState::Gone, Some(start))));
        orders.push(Action::Steer);
        let ordinal = process.ordinal;
        let seat = self.seats.get_mut(&ordinal);
        match seat {
            Some(seat) if seat.serving == Some(start) && !process.phase.is_leaving() => {
                seat.serving = None;
                if now.saturating_sub(process.since) >= STABLE {
                    seat.crashes = 0;
                }
                if seat.coming.is_none() {
                    self.crashed(ordinal, why, exit, true, now, &mut orders);
                }
            }
            Some(seat) if seat.coming == Some(start) => {
                seat.coming = None;
                let serves = seat.serving.is_some();
                self.replacement_failed(ordinal, process.command, why, now, &mut orders);
                if !serves {
                    self.crashed(ordinal, why, exit, false, now, &mut orders);
                }
            }
            Some(seat) if seat.serving == Some(start) => seat.serving = None,
            _ => {}
        }
        self.go_on(now, &mut orders);
        orders
    }

    /// Nobody serves in this worker's place.
    fn crashed(
        &mut self,
        ordinal: u16,
        why: ChangeReason,
        exit: Exit,
        was_ready: bool,
        now: Duration,
        orders: &mut Vec<Action>,
    ) {
        if self.stopping {
            return;
        }
        let Some(seat) = self.seats.get_mut(&ordinal) else { return };
        // Who was killed did nothing wrong, as far as anybody can see.
        let killed = exit == Exit::Signal(SIGKILL);
        if !killed {
            seat.crashes += 1;
        }
        let least = if killed && !was_ready { PAUSE } else { Duration::ZERO };
        let (state, pause) = if seat.crashes >= MOST_CRASHES {
            (WorkerState::GivenUp, Pause::ForEver(exit))
        } else {
            seat.restarts += 1;
            (WorkerState::Waiting, Pause::Until(now + pause(seat.crashes).max(least)))
        };
        seat.pause = Some(pause);
        let change = WorkerChange { ordinal, start: None, state, why: Some(why) };
        // The first crash is answered at once, and its end has been told.
        if seat.crashes > 1 {
            orders.push(Action::Tell(change));
        }
    }
}
