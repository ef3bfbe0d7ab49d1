//! The life of workers: starting, ready, draining, gone; and what is to be done about it.
//!
//! A state machine. What happened goes in with the time it happened at, orders come out; nothing here
//! waits, starts or kills. Times count from any fixed moment.
//!
//! A worker has an ordinal, 1 to N, for as long as it is wanted. Its processes come and go: each is a
//! [`Start`]. One *serves*; while it is being replaced another one is *coming*; and those that were
//! told to go are *leaving*.

pub mod exit;
mod held_sockets;
#[cfg(test)]
mod histories;
mod instance;
mod model;
mod report;
mod request;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::lifecycle::exit::Exit;
pub use held_sockets::{Fallback, HeldSockets, QueueMode};
pub use instance::InstanceId;
use instance::{FIRST_PAUSE, Instance, Pause, Phase, Slot, pause};
pub use model::{
    Action, ChangeReason, LifecycleSettings, RequestFailure, RunOutcome, WorkerChange, WorkerState,
};
pub use report::WorkerReport;
use request::ActiveRequest;
pub use request::{RequestRefusal, RunRequest};
pub use snapshot::{ServingWorker, Snapshot};

/// How many crashes in a row are too many.
pub const MAX_CRASHES: u32 = 6;

/// A worker that was ready for so long starts a new row when it crashes.
pub const CRASH_RESET: Duration = Duration::from_secs(1);

const SIGKILL: u8 = 9;

/// A worker that is starting and listens on nothing for so long is told of; and one that is ready may
/// open more addresses for so long, which its successors must have too.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// All workers of a run.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    settings: LifecycleSettings,
    slots: BTreeMap<u16, Slot>,
    instances: BTreeMap<InstanceId, Instance>,
    request_in_progress: Option<ActiveRequest>,
    last_instance: InstanceId,
    stopping: bool,
    /// Its end has been ordered.
    ended: bool,
}

impl Lifecycle {
    /// A run of which nothing has been started.
    #[must_use]
    pub fn new(settings: LifecycleSettings) -> Self {
        Self {
            settings,
            slots: BTreeMap::new(),
            instances: BTreeMap::new(),
            request_in_progress: None,
            last_instance: 0,
            stopping: false,
            ended: false,
        }
    }

    /// Starts every worker.
    pub fn start_all(&mut self, now: Duration) -> Vec<Action> {
        let mut orders = Vec::new();
        for ordinal in 1..=self.settings.copies {
            self.slots.insert(ordinal, Slot::default());
            self.start(ordinal, now, &mut orders);
        }
        orders
    }

    /// Processes that may get new connections: those that serve.
    #[must_use]
    pub fn serving(&self) -> BTreeSet<InstanceId> {
        let serving = self.slots.values().filter_map(|seat| seat.serving);
        serving.filter(|start| self.phase(*start) == Some(Phase::Ready)).collect()
    }

    fn phase(&self, start: InstanceId) -> Option<Phase> {
        self.instances.get(&start).map(|process| process.phase)
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
            Some(_) => seat.replacement.is_none(),
            None => seat.replacement.is_none() && matches!(seat.pause, Some(Pause::GivenUp(_))),
        };
        self.request_in_progress.is_none() && self.slots.values().all(is_settled)
    }

    /// Whether the processes of some worker are to listen on this address.
    #[must_use]
    pub fn expects_listener(&self, address: &str) -> bool {
        self.slots.values().any(|seat| seat.addresses.contains(address))
    }

    /// Processes that are not ready, and were not told to end.
    #[must_use]
    pub fn starting(&self) -> Vec<InstanceId> {
        let starting = |process: &Instance| process.phase.state() == WorkerState::Starting;
        let starting = self.instances.iter().filter(|(_, process)| starting(process));
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
        self.instances.get(&start).map(|process| process.command)
    }

    /// When to call [`Self::tick`] next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let pauses = self.slots.values().filter_map(|seat| match seat.pause {
            Some(Pause::Until(until)) if seat.replacement.is_none() && !self.stopping => {
                Some(until)
            }
            _ => None,
        });
        self.instances.values().filter_map(|process| self.deadline(process)).chain(pauses).min()
    }

    fn deadline(&self, process: &Instance) -> Option<Duration> {
        match process.phase {
            Phase::Starting { .. } => {
                let silence = process.is_silent().then_some(process.since + SILENCE_TIMEOUT);
                let ready = process.since + self.settings.ready_timeout;
                [silence, process.has_ready_deadline().then_some(ready)].into_iter().flatten().min()
            }
            Phase::Terminating { deadline: until } => Some(until),
            Phase::Ready | Phase::Draining | Phase::Killed => None,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        let mut orders = Vec::new();
        let late: Vec<InstanceId> = self
            .instances
            .iter()
            .filter(|(_, process)| self.deadline(process).is_some_and(|due| due <= now))
            .map(|(start, _)| *start)
            .collect();
        for start in late {
            self.on_deadline(start, now, &mut orders);
        }
        let rested = |seat: &Slot| matches!(seat.pause, Some(Pause::Until(until)) if until <= now);
        let idle: Vec<u16> = self
            .slots
            .iter()
            .filter(|(_, seat)| rested(seat) && seat.replacement.is_none())
            .map(|(ordinal, _)| *ordinal)
            .collect();
        for ordinal in idle {
            if !self.stopping {
                self.start(ordinal, now, &mut orders);
            }
        }
        self.advance(now, &mut orders);
        orders
    }

    fn on_deadline(&mut self, start: InstanceId, now: Duration, orders: &mut Vec<Action>) {
        let ready_within = self.settings.ready_timeout;
        let Some(process) = self.instances.get_mut(&start) else { return };
        let ordinal = process.ordinal;
        let tell = |state, why| {
            Action::Report(WorkerChange {
                ordinal,
                instance: Some(start),
                state,
                reason: Some(why),
            })
        };
        match process.phase {
            Phase::Starting { .. } => {
                if process.is_silent() && now >= process.since + SILENCE_TIMEOUT {
                    process.silence_reported = true;
                    orders.push(tell(WorkerState::Starting, ChangeReason::Silent));
                }
                if process.has_ready_deadline() && now >= process.since + ready_within {
                    let listens = process.listening.intersection(&process.required).count();
                    let why = ChangeReason::NotReady {
                        listening: listens,
                        expected: process.required.len(),
                    };
                    self.ready_timed_out(start, why, now, orders);
                }
            }
            Phase::Terminating { .. } => {
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
        let Some(seat) = self.slots.get_mut(&ordinal) else { return };
        self.last_instance += 1;
        let start = self.last_instance;
        seat.replacement = Some(start);
        seat.pause = None;
        let (command, predecessor) = (seat.command, seat.serving);
        let process = Instance {
            ordinal,
            command,
            since: now,
            phase: Phase::Starting { checking: false },
            listening: BTreeSet::new(),
            required: seat.addresses.clone(),
            silence_reported: false,
        };
        self.instances.insert(start, process);
        orders.push(Action::Start { instance: start, ordinal, command, predecessor });
    }

    /// The command could not be started.
    pub fn start_failed(&mut self, start: InstanceId, now: Duration) -> Vec<Action> {
        self.instance_ended(start, ChangeReason::NotStarted, Exit::Code(127), now)
    }

    /// It was started, as this process.
    pub fn started(&self, start: InstanceId) -> Vec<Action> {
        self.report_change(start, None).into_iter().collect()
    }

    fn report_change(&self, start: InstanceId, why: Option<ChangeReason>) -> Option<Action> {
        let process = self.instances.get(&start)?;
        let (ordinal, state) = (process.ordinal, process.phase.state());
        Some(Action::Report(WorkerChange { ordinal, instance: Some(start), state, reason: why }))
    }

    /// It listens on this address.
    pub fn listening(&mut self, start: InstanceId, address: String, now: Duration) -> Vec<Action> {
        let Some(process) = self.instances.get_mut(&start) else { return Vec::new() };
        process.listening.insert(address.clone());
        let complete = process.listening.is_superset(&process.required);
        let ordinal = process.ordinal;
        match process.phase {
            Phase::Starting { checking: ref mut probed } if complete && !*probed => {
                *probed = true;
                vec![Action::CheckReady(start)]
            }
            Phase::Ready if now < process.since + SILENCE_TIMEOUT => {
                if let Some(seat) = self.slots.get_mut(&ordinal) {
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
        let Some(process) = self.instances.get_mut(&start) else { return orders };
        if !matches!(process.phase, Phase::Starting { .. }) {
            return orders;
        }
        process.phase = Phase::Ready;
        process.since = now;
        let (ordinal, addresses) = (process.ordinal, process.listening.clone());
        orders.extend(self.report_change(start, None));
        orders.push(Action::UpdateSteering);
        self.instance_ready(ordinal, start, addresses, now, &mut orders);
        orders
    }

    /// Its queue is empty.
    pub fn drained(&mut self, start: InstanceId, now: Duration) -> Vec<Action> {
        let grace = self.settings.grace;
        match self.instances.get_mut(&start) {
            Some(process) if process.phase == Phase::Draining => {
                process.phase = Phase::Terminating { deadline: now + grace };
                vec![Action::Terminate(start)]
            }
            _ => Vec::new(),
        }
    }

    /// Its first process has ended.
    pub fn exited(&mut self, start: InstanceId, exit: Exit, now: Duration) -> Vec<Action> {
        self.instance_ended(start, ChangeReason::Ended(exit), exit, now)
    }

    fn instance_ended(
        &mut self,
        start: InstanceId,
        why: ChangeReason,
        exit: Exit,
        now: Duration,
    ) -> Vec<Action> {
        let mut orders = Vec::new();
        let Some(process) = self.instances.remove(&start) else { return orders };
        let change = |state, start| WorkerChange {
            ordinal: process.ordinal,
            instance: start,
            state,
            reason: Some(why),
        };
        orders.push(Action::Report(change(WorkerState::Gone, Some(start))));
        orders.push(Action::UpdateSteering);
        let ordinal = process.ordinal;
        let seat = self.slots.get_mut(&ordinal);
        match seat {
            Some(seat) if seat.serving == Some(start) && !process.phase.is_leaving() => {
                seat.serving = None;
                if now.saturating_sub(process.since) >= CRASH_RESET {
                    seat.crashes = 0;
                }
                if seat.replacement.is_none() {
                    self.count_crash(ordinal, why, exit, true, now, &mut orders);
                }
            }
            Some(seat) if seat.replacement == Some(start) => {
                seat.replacement = None;
                let serves = seat.serving.is_some();
                self.replacement_failed(ordinal, process.command, why, now, &mut orders);
                if !serves {
                    self.count_crash(ordinal, why, exit, false, now, &mut orders);
                }
            }
            Some(seat) if seat.serving == Some(start) => seat.serving = None,
            _ => {}
        }
        self.advance(now, &mut orders);
        orders
    }

    /// Nobody serves in this worker's place.
    fn count_crash(
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
        let Some(seat) = self.slots.get_mut(&ordinal) else { return };
        // Who was killed did nothing wrong, as far as anybody can see.
        let killed = exit == Exit::Signal(SIGKILL);
        if !killed {
            seat.crashes += 1;
        }
        let least = if killed && !was_ready { FIRST_PAUSE } else { Duration::ZERO };
        let (state, pause) = if seat.crashes >= MAX_CRASHES {
            (WorkerState::GivenUp, Pause::GivenUp(exit))
        } else {
            seat.restarts += 1;
            (WorkerState::Waiting, Pause::Until(now + pause(seat.crashes).max(least)))
        };
        seat.pause = Some(pause);
        let change = WorkerChange { ordinal, instance: None, state, reason: Some(why) };
        // The first crash is answered at once, and its end has been told.
        if seat.crashes > 1 {
            orders.push(Action::Report(change));
        }
    }
}
