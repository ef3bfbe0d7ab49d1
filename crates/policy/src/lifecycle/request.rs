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
    Restart { surge: u16, remaining: BTreeSet<u16>, in_progress: BTreeSet<u16> },
    /// New processes are started one after another, and take over together.
    Upgrade { command: usize, old_command: usize, remaining: BTreeSet<u16> },
    /// New workers get ready, or surplus ones go.
    Scale { waiting: BTreeSet<u16> },
    /// A replacement failed: what it left is being ended.
    RollBack(RequestFailure),
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
        if self.request_in_progress.is_some() {
            return Err(RequestRefusal::Busy);
        }
        match request {
            RunRequest::Restart { surge } => {
                let surge = surge.unwrap_or(self.settings.surge);
                let left = self.slots.keys().copied().collect();
                self.request_in_progress = Some(ActiveRequest::Restart {
                    surge,
                    remaining: left,
                    in_progress: BTreeSet::new(),
                });
            }
            RunRequest::Upgrade { command } => {
                let before = self.slots.values().next().map_or(0, |seat| seat.command);
                let left = self.slots.keys().copied().collect();
                self.request_in_progress =
                    Some(ActiveRequest::Upgrade { command, old_command: before, remaining: left });
            }
            RunRequest::Scale { copies } => self.scale(copies, now, &mut orders),
            RunRequest::Stop => {}
        }
        self.advance(now, &mut orders);
        Ok(orders)
    }

    /// Everything ends at once, without grace.
    pub fn kill(&mut self, now: Duration) -> Vec<Action> {
        let mut orders = Vec::new();
        self.stop(now, &mut orders);
        for (start, process) in &mut self.instances {
            process.phase = Phase::Killed;
            orders.push(Action::Kill(*start));
        }
        orders
    }

    fn stop(&mut self, now: Duration, orders: &mut Vec<Action>) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        if self.request_in_progress.take().is_some() {
            orders.push(Action::RequestDone(Err(RequestFailure::Stopping)));
        }
        orders.push(Action::StopAccepting);
        let all: Vec<InstanceId> = self.instances.keys().copied().collect();
        for start in all {
            self.retire(start, now, orders);
        }
        self.advance(now, orders);
    }

    fn scale(&mut self, copies: u16, now: Duration, orders: &mut Vec<Action>) {
        self.settings.copies = copies;
        let command = self.slots.values().next().map_or(0, |seat| seat.command);
        let surplus: Vec<u16> = self.slots.keys().copied().filter(|n| *n > copies).collect();
        let mut waiting = BTreeSet::new();
        for ordinal in surplus {
            let Some(seat) = self.slots.remove(&ordinal) else { continue };
            for start in [seat.serving, seat.replacement].into_iter().flatten() {
                waiting.insert(ordinal);
                self.retire(start, now, orders);
            }
        }
        let new: Vec<u16> = (1..=copies).filter(|n| !self.slots.contains_key(n)).collect();
        for ordinal in new {
            waiting.insert(ordinal);
            self.slots.insert(ordinal, Slot { command, ..Slot::default() });
            self.start(ordinal, now, orders);
        }
        self.request_in_progress = Some(ActiveRequest::Scale { waiting });
    }

    /// Takes a process out of service: it drains if it had connections to accept.
    fn retire(&mut self, start: InstanceId, now: Duration, orders: &mut Vec<Action>) {
        let grace = self.settings.grace;
        let Some(process) = self.instances.get_mut(&start) else { return };
        match process.phase {
            Phase::Ready => {
                process.phase = Phase::Draining;
                process.since = now;
                orders.extend([Action::UpdateSteering, Action::Drain(start)]);
            }
            Phase::Starting { .. } => {
                process.phase = Phase::Terminating { deadline: now + grace };
                process.since = now;
                orders.push(Action::Terminate(start));
            }
            Phase::Draining | Phase::Terminating { .. } | Phase::Killed => return,
        }
        orders.extend(self.report_change(start, None));
    }

    pub(super) fn ready_timed_out(
        &mut self,
        start: InstanceId,
        why: ChangeReason,
        now: Duration,
        orders: &mut Vec<Action>,
    ) {
        let Some(process) = self.instances.get(&start) else { return };
        let (ordinal, command) = (process.ordinal, process.command);
        let state = WorkerState::Draining;
        orders.push(Action::Report(WorkerChange {
            ordinal,
            instance: Some(start),
            state,
            reason: Some(why),
        }));
        let Some(seat) = self.slots.get_mut(&ordinal) else { return };
        let serves = seat.serving.is_some();
        if seat.replacement == Some(start) {
            seat.replacement = None;
        }
        self.retire(start, now, orders);
        self.replacement_failed(ordinal, command, why, now, orders);
        if !serves {
            self.count_crash(ordinal, why, Exit::Code(1), false, now, orders);
        }
    }

    pub(super) fn instance_ready(
        &mut self,
        ordinal: u16,
        start: InstanceId,
        addresses: BTreeSet<String>,
        now: Duration,
        orders: &mut Vec<Action>,
    ) {
        let upgrading = matches!(self.request_in_progress, Some(ActiveRequest::Upgrade { .. }));
        let Some(seat) = self.slots.get_mut(&ordinal) else { return };
        // In an upgrade both stay until all are ready.
        if seat.replacement == Some(start) && !(upgrading && seat.serving.is_some()) {
            seat.replacement = None;
            seat.addresses = addresses;
            if let Some(before) = seat.serving.replace(start) {
                self.retire(before, now, orders);
            }
        }
        self.advance(now, orders);
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
        match self.request_in_progress.take() {
            Some(ActiveRequest::Upgrade { command, old_command: before, .. }) if command == of => {
                self.request_in_progress = Some(ActiveRequest::RollBack(failed));
                let coming: Vec<InstanceId> = self
                    .slots
                    .values_mut()
                    .filter_map(|seat| {
                        seat.command = before;
                        if seat.serving.is_none() {
                            seat.pause = Some(Pause::Until(now));
                        }
                        seat.replacement.take()
                    })
                    .collect();
                for start in coming {
                    self.retire(start, now, orders);
                }
            }
            Some(ActiveRequest::Restart { in_progress: under_way, .. })
                if under_way.contains(&ordinal) =>
            {
                self.request_in_progress = Some(ActiveRequest::RollBack(failed));
            }
            Some(ActiveRequest::Scale { waiting }) if waiting.contains(&ordinal) => {
                orders.push(Action::RequestDone(Err(failed)));
            }
            other => self.request_in_progress = other,
        }
    }

    /// Whatever is to be done next, if what was waited for has come.
    pub(super) fn advance(&mut self, now: Duration, orders: &mut Vec<Action>) {
        if self.stopping {
            if self.instances.is_empty() && !std::mem::replace(&mut self.ended, true) {
                orders.push(Action::EndRun(RunOutcome::Stopped));
            }
            return;
        }
        match self.request_in_progress.take() {
            None => {}
            Some(ActiveRequest::Restart { surge, remaining: left, in_progress: under_way }) => {
                self.advance_restart(surge, left, under_way, now, orders);
            }
            Some(ActiveRequest::Upgrade { command, old_command: before, remaining: left }) => {
                self.advance_upgrade(command, before, left, now, orders);
            }
            Some(ActiveRequest::Scale { mut waiting }) => {
                waiting.retain(|ordinal| !self.slot_is_settled(*ordinal));
                match waiting.is_empty() {
                    true => orders.push(Action::RequestDone(Ok(()))),
                    false => self.request_in_progress = Some(ActiveRequest::Scale { waiting }),
                }
            }
            Some(ActiveRequest::RollBack(failed)) => {
                let leaving = self.instances.values().any(|process| process.phase.is_leaving());
                match leaving {
                    false => orders.push(Action::RequestDone(Err(failed))),
                    true => self.request_in_progress = Some(ActiveRequest::RollBack(failed)),
                }
            }
        }
        let given_up = |seat: &Slot| match seat.pause {
            Some(Pause::GivenUp(exit)) if seat.serving.or(seat.replacement).is_none() => Some(exit),
            _ => None,
        };
        let exits: Option<Vec<Exit>> = self.slots.values().map(given_up).collect();
        if let Some(exit) = exits.and_then(|exits| exits.last().copied())
            && self.instances.is_empty()
        {
            (self.stopping, self.ended) = (true, true);
            orders.push(Action::EndRun(RunOutcome::GivenUp(exit)));
        }
    }

    /// Whether a worker is as it is to stay: one ready process, or, if it is not wanted, none.
    fn slot_is_settled(&self, ordinal: u16) -> bool {
        let mut processes = self.instances.values().filter(|process| process.ordinal == ordinal);
        match self.slots.get(&ordinal) {
            None => processes.next().is_none(),
            Some(Slot { pause: Some(Pause::GivenUp(_)), replacement: None, .. }) => true,
            Some(Slot { serving: None, replacement: Some(coming), .. }) => {
                self.never_listens(*coming)
            }
            Some(Slot { serving: None, .. }) => false,
            Some(_) => processes.all(|process| process.phase == Phase::Ready),
        }
    }

    fn never_listens(&self, start: InstanceId) -> bool {
        let process = self.instances.get(&start);
        process.is_some_and(|process| process.silence_reported && !process.has_ready_deadline())
    }

    fn advance_restart(
        &mut self,
        surge: u16,
        mut left: BTreeSet<u16>,
        mut under_way: BTreeSet<u16>,
        now: Duration,
        orders: &mut Vec<Action>,
    ) {
        under_way.retain(|ordinal| !self.slot_is_settled(*ordinal));
        // With no surge, the new one's turn comes when the old one has ended.
        for ordinal in under_way.clone() {
            let empty = self.slots.get(&ordinal).is_some_and(|seat| {
                seat.serving.is_none() && seat.replacement.is_none() && seat.pause.is_none()
            });
            let alone = surge > 0 || self.instances.values().all(|it| it.ordinal != ordinal);
            if empty && alone {
                self.start(ordinal, now, orders);
            }
        }
        while under_way.len() < usize::from(surge.max(1)) {
            let Some(ordinal) = left.pop_first() else { break };
            let Some(seat) = self.slots.get_mut(&ordinal) else { continue };
            // One that waits or was given up gets its chance now.
            seat.crashes = 0;
            // One that was coming before is not what was asked for.
            let (serving, coming) = (seat.serving, seat.replacement.take());
            let before = coming.or(serving.filter(|_| surge == 0));
            if let Some(before) = before {
                self.retire(before, now, orders);
            }
            if surge > 0 || before.is_none() {
                self.start(ordinal, now, orders);
            }
            under_way.insert(ordinal);
        }
        match under_way.is_empty() {
            true => orders.push(Action::RequestDone(Ok(()))),
            false => {
                self.request_in_progress =
                    Some(ActiveRequest::Restart { surge, remaining: left, in_progress: under_way })
            }
        }
    }

    fn advance_upgrade(
        &mut self,
        command: usize,
        before: usize,
        mut left: BTreeSet<u16>,
        now: Duration,
        orders: &mut Vec<Action>,
    ) {
        let is_new = |start: &InstanceId| self.command(*start) == Some(command);
        let under_way = self
            .slots
            .values()
            .filter_map(|seat| seat.replacement)
            .any(|coming| is_new(&coming) && self.phase(coming) != Some(Phase::Ready));
        if !under_way && let Some(ordinal) = left.pop_first() {
            if let Some(seat) = self.slots.get_mut(&ordinal) {
                seat.command = command;
                seat.crashes = 0;
                // One that was coming before is of the command that is to go.
                if let Some(before) = seat.replacement.take() {
                    self.retire(before, now, orders);
                }
                self.start(ordinal, now, orders);
            }
            self.request_in_progress =
                Some(ActiveRequest::Upgrade { command, old_command: before, remaining: left });
            return;
        }
        if under_way || !left.is_empty() {
            self.request_in_progress =
                Some(ActiveRequest::Upgrade { command, old_command: before, remaining: left });
            return;
        }
        // All are ready: the old ones go, and it is a restart whose end is waited for.
        let mut old = Vec::new();
        for seat in self.slots.values_mut() {
            let Some(coming) = seat.replacement.take() else { continue };
            if let Some(process) = self.instances.get(&coming) {
                seat.addresses = process.listening.clone();
            }
            old.extend(seat.serving.replace(coming));
        }
        for start in old {
            self.retire(start, now, orders);
        }
        let under_way = self.slots.keys().copied().collect();
        self.advance_restart(1, BTreeSet::new(), under_way, now, orders);
    }
}
