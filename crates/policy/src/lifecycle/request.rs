//! What a run is asked for while it runs: restart, upgrade, scale, stop.

use std::collections::BTreeSet;
use std::time::Duration;

use super::instance::{Pause, Phase, Slot};
use super::{
    Action, ChangeReason, InstanceId, Lifecycle, RequestFailure, RunOutcome, WorkerChange,
    WorkerState,
};
use crate::lifecycle::exit::Exit;

/// What a run can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunRequest {
    /// Replace every worker, this many at once; `None`: as the settings say.
    Restart {
        /// How many are replaced at once; 0: one, after it has ended.
        surge: Option<u16>,
    },
    /// Replace every worker by one of this command, all or none.
    Upgrade {
        /// Which of the run's commands.
        command: usize,
    },
    /// Have this many workers.
    Scale {
        /// 1 or more.
        copies: u16,
    },
    /// Let all end.
    Stop,
}

/// Why a request is not even begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestRefusal {
    /// Another one is under way.
    Busy,
    /// The run is ending.
    Stopping,
}

/// A request that is being carried out.
#[derive(Debug, Clone)]
pub(super) enum ActiveRequest {
    /// Workers that are still to be replaced, and those that are being.
    Restart { surge: u16, left: BTreeSet<u16>, under_way: BTreeSet<u16> },
    /// New processes are started one after another, and take over together.
    Upgrade { command: usize, before: usize, left: BTreeSet<u16> },
    /// New workers get ready, or surplus ones go.
    Scale { waiting: BTreeSet<u16> },
    /// A replacement failed: what it left is being ended.
    BackOut(RequestFailure),
}

impl Lifecycle {
    /// Begins to carry out a request. [`Order::Done`] tells of its end.
    ///
    /// # Errors
    ///
    /// See [`Refusal`]. Stopping is never refused: it puts an end to whatever is under way.
    pub fn request(
        &mut self,
        request: RunRequest,
        now: Duration,
    ) -> Result<Vec<Action>, RequestRefusal> {
        let mut orders = Vec::new();
        if request == RunRequest::Stop {
            self.stop(now, &mut orders);
            return Ok(orders);
        }
        if self.stopping {
            return Err(RequestRefusal::Stopping);
        }
        if self.work.is_some() {
            return Err(RequestRefusal::Busy);
        }
        match request {
            RunRequest::Restart { surge } => {
                let surge = surge.unwrap_or(self.settings.surge);
                let left = self.seats.keys().copied().collect();
                self.work =
                    Some(ActiveRequest::Restart { surge, left, under_way: BTreeSet::new() });
            }
            RunRequest::Upgrade { command } => {
                let before = self.seats.values().next().map_or(0, |seat| seat.command);
                let left = self.seats.keys().copied().collect();
                self.work = Some(ActiveRequest::Upgrade { command, before, left });
            }
            RunRequest::Scale { copies } => self.scale(copies, now, &mut orders),
            RunRequest::Stop => {}
        }
        self.go_on(now, &mut orders);
        Ok(orders)
    }

    /// Everything ends at once, without grace.
    pub fn kill(&mut self, now: Duration) -> Vec<Action> {
        let mut orders = Vec::new();
        self.stop(now, &mut orders);
        for (start, process) in &mut self.processes {
            process.phase = Phase::Killed;
            orders.push(Action::Kill(*start));
        }
        orders
    }

    fn stop(&mut self, now: Duration, orders: &mut Vec<Action>) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        if self.work.take().is_some() {
            orders.push(Action::Done(Err(RequestFailure::Stopping)));
        }
        orders.push(Action::Close);
        let all: Vec<InstanceId> = self.processes.keys().copied().collect();
        for start in all {
            self.leave(start, now, orders);
        }
        self.go_on(now, orders);
    }

    fn scale(&mut self, copies: u16, now: Duration, orders: &mut Vec<Action>) {
        self.settings.copies = copies;
        let command = self.seats.values().next().map_or(0, |seat| seat.command);
        let surplus: Vec<u16> = self.seats.keys().copied().filter(|n| *n > copies).collect();
        let mut waiting = BTreeSet::new();
        for ordinal in surplus {
            let Some(seat) = self.seats.remove(&ordinal) else { continue };
            for start in [seat.serving, seat.coming].into_iter().flatten() {
                waiting.insert(ordinal);
                self.leave(start, now, orders);
            }
        }
        let new: Vec<u16> = (1..=copies).filter(|n| !self.seats.contains_key(n)).collect();
        for ordinal in new {
            waiting.insert(ordinal);
            self.seats.insert(ordinal, Slot { command, ..Slot::default() });
            self.start(ordinal, now, orders);
        }
        self.work = Some(ActiveRequest::Scale { waiting });
    }

    /// Takes a process out of service: it drains if it had connections to accept.
    fn leave(&mut self, start: InstanceId, now: Duration, orders: &mut Vec<Action>) {
        let grace = self.settings.grace;
        let Some(process) = self.processes.get_mut(&start) else { return };
        match process.phase {
            Phase::Ready => {
                process.phase = Phase::Draining;
                process.since = now;
                orders.extend([Action::Steer, Action::Drain(start)]);
            }
            Phase::Starting { .. } => {
                process.phase = Phase::Told { until: now + grace };
                process.since = now;
                orders.push(Action::Terminate(start));
            }
            Phase::Draining | Phase::Told { .. } | Phase::Killed => return,
        }
        orders.extend(self.tell(start, None));
    }

    pub(super) fn did_not_get_ready(
        &mut self,
        start: InstanceId,
        why: ChangeReason,
        now: Duration,
        orders: &mut Vec<Action>,
    ) {
        let Some(process) = self.processes.get(&start) else { return };
        let (ordinal, command) = (process.ordinal, process.command);
        let state = WorkerState::Draining;
        orders.push(Action::Tell(WorkerChange {
            ordinal,
            start: Some(start),
            state,
            why: Some(why),
        }));
        let Some(seat) = self.seats.get_mut(&ordinal) else { return };
        let serves = seat.serving.is_some();
        if seat.coming == Some(start) {
            seat.coming = None;
        }
        self.leave(start, now, orders);
        self.replacement_failed(ordinal, command, why, now, orders);
        if !serves {
            self.crashed(ordinal, why, Exit::Code(1), false, now, orders);
        }
    }

    pub(super) fn is_ready(
        &mut self,
        ordinal: u16,
        start: InstanceId,
        addresses: BTreeSet<String>,
        now: Duration,
        orders: &mut Vec<Action>,
    ) {
        let upgrading = matches!(self.work, Some(ActiveRequest::Upgrade { .. }));
        let Some(seat) = self.seats.get_mut(&ordinal) else { return };
        // In an upgrade both stay until all are ready.
        if seat.coming == Some(start) && !(upgrading && seat.serving.is_some()) {
            seat.coming = None;
            seat.addresses = addresses;
            if let Some(before) = seat.serving.replace(start) {
                self.leave(before, now, orders);
            }
        }
        self.go_on(now, orders);
    }

    /// A new process has ended, or is told to, before it was ready.
    pub(super) fn replacement_failed(
        &mut self,
        ordinal: u16,
        of: usize,
        why: ChangeReason,
        now: Duration,
        orders: &mut Vec<Action>,
    ) {
        let failed = RequestFailure::NotReady(ordinal, why);
        match self.work.take() {
            Some(ActiveRequest::Upgrade { command, before, .. }) if command == of => {
                self.work = Some(ActiveRequest::BackOut(failed));
                let coming: Vec<InstanceId> = self
                    .seats
                    .values_mut()
                    .filter_map(|seat| {
                        seat.command = before;
                        if seat.serving.is_none() {
                            seat.pause = Some(Pause::Until(now));
                        }
                        seat.coming.take()
                    })
                    .collect();
                for start in coming {
                    self.leave(start, now, orders);
                }
            }
            Some(ActiveRequest::Restart { under_way, .. }) if under_way.contains(&ordinal) => {
                self.work = Some(ActiveRequest::BackOut(failed));
            }
            Some(ActiveRequest::Scale { waiting }) if waiting.contains(&ordinal) => {
                orders.push(Action::Done(Err(failed)));
            }
            other => self.work = other,
        }
    }

    /// Whatever is to be done next, if what was waited for has come.
    pub(super) fn go_on(&mut self, now: Duration, orders: &mut Vec<Action>) {
        if self.stopping {
            if self.processes.is_empty() && !std::mem::replace(&mut self.over, true) {
                orders.push(Action::End(RunOutcome::Stopped));
            }
            return;
        }
        match self.work.take() {
            None => {}
            Some(ActiveRequest::Restart { surge, left, under_way }) => {
                self.go_on_restarting(surge, left, under_way, now, orders);
            }
            Some(ActiveRequest::Upgrade { command, before, left }) => {
                self.go_on_upgrading(command, before, left, now, orders);
            }
            Some(ActiveRequest::Scale { mut waiting }) => {
                waiting.retain(|ordinal| !self.is_settled_at(*ordinal));
                match waiting.is_empty() {
                    true => orders.push(Action::Done(Ok(()))),
                    false => self.work = Some(ActiveRequest::Scale { waiting }),
                }
            }
            Some(ActiveRequest::BackOut(failed)) => {
                let leaving = self.processes.values().any(|process| process.phase.is_leaving());
                match leaving {
                    false => orders.push(Action::Done(Err(failed))),
                    true => self.work = Some(ActiveRequest::BackOut(failed)),
                }
            }
        }
        let given_up = |seat: &Slot| match seat.pause {
            Some(Pause::ForEver(exit)) if seat.serving.or(seat.coming).is_none() => Some(exit),
            _ => None,
        };
        let exits: Option<Vec<Exit>> = self.seats.values().map(given_up).collect();
        if let Some(exit) = exits.and_then(|exits| exits.last().copied())
            && self.processes.is_empty()
        {
            (self.stopping, self.over) = (true, true);
            orders.push(Action::End(RunOutcome::GivenUp(exit)));
        }
    }

    /// Whether a worker is as it is to stay: one ready process, or, if it is not wanted, none.
    fn is_settled_at(&self, ordinal: u16) -> bool {
        let mut processes = self.processes.values().filter(|process| process.ordinal == ordinal);
        match self.seats.get(&ordinal) {
            None => processes.next().is_none(),
            Some(Slot { pause: Some(Pause::ForEver(_)), coming: None, .. }) => true,
            Some(Slot { serving: None, coming: Some(coming), .. }) => self.never_listens(*coming),
            Some(Slot { serving: None, .. }) => false,
            Some(_) => processes.all(|process| process.phase == Phase::Ready),
        }
    }

    fn never_listens(&self, start: InstanceId) -> bool {
        let process = self.processes.get(&start);
        process.is_some_and(|process| process.silence_told && !process.must_get_ready())
    }

    fn go_on_restarting(
        &mut self,
        surge: u16,
        mut left: BTreeSet<u16>,
        mut under_way: BTreeSet<u16>,
        now: Duration,
        orders: &mut Vec<Action>,
    ) {
        under_way.retain(|ordinal| !self.is_settled_at(*ordinal));
        // With no surge, the new one's turn comes when the old one has ended.
        for ordinal in under_way.clone() {
            let empty = self.seats.get(&ordinal).is_some_and(|seat| {
                seat.serving.is_none() && seat.coming.is_none() && seat.pause.is_none()
            });
            let alone = surge > 0 || self.processes.values().all(|it| it.ordinal != ordinal);
            if empty && alone {
                self.start(ordinal, now, orders);
            }
        }
        while under_way.len() < usize::from(surge.max(1)) {
            let Some(ordinal) = left.pop_first() else { break };
            let Some(seat) = self.seats.get_mut(&ordinal) else { continue };
            // One that waits or was given up gets its chance now.
            seat.crashes = 0;
            // One that was coming before is not what was asked for.
            let (serving, coming) = (seat.serving, seat.coming.take());
            let before = coming.or(serving.filter(|_| surge == 0));
            if let Some(before) = before {
                self.leave(before, now, orders);
            }
            if surge > 0 || before.is_none() {
                self.start(ordinal, now, orders);
            }
            under_way.insert(ordinal);
        }
        match under_way.is_empty() {
            true => orders.push(Action::Done(Ok(()))),
            false => self.work = Some(ActiveRequest::Restart { surge, left, under_way }),
        }
    }

    fn go_on_upgrading(
        &mut self,
        command: usize,
        before: usize,
        mut left: BTreeSet<u16>,
        now: Duration,
        orders: &mut Vec<Action>,
    ) {
        let is_new = |start: &InstanceId| self.command(*start) == Some(command);
        let under_way = self
            .seats
            .values()
            .filter_map(|seat| seat.coming)
            .any(|coming| is_new(&coming) && self.phase(coming) != Some(Phase::Ready));
        if !under_way && let Some(ordinal) = left.pop_first() {
            if let Some(seat) = self.seats.get_mut(&ordinal) {
                seat.command = command;
                seat.crashes = 0;
                // One that was coming before is of the command that is to go.
                if let Some(before) = seat.coming.take() {
                    self.leave(before, now, orders);
                }
                self.start(ordinal, now, orders);
            }
            self.work = Some(ActiveRequest::Upgrade { command, before, left });
            return;
        }
        if under_way || !left.is_empty() {
            self.work = Some(ActiveRequest::Upgrade { command, before, left });
            return;
        }
        // All are ready: the old ones go, and it is a restart whose end is waited for.
        let mut old = Vec::new();
        for seat in self.seats.values_mut() {
            let Some(coming) = seat.coming.take() else { continue };
            if let Some(process) = self.processes.get(&coming) {
                seat.addresses = process.listens.clone();
            }
            old.extend(seat.serving.replace(coming));
        }
        for start in old {
            self.leave(start, now, orders);
        }
        let under_way = self.seats.keys().copied().collect();
        self.go_on_restarting(1, BTreeSet::new(), under_way, now, orders);
    }
}
