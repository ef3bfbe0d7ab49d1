//! Requests: restart, upgrade, scale, stop.

use std::collections::BTreeSet;
use std::time::Duration;

use super::exit::Exit;
use super::instance::{Instance, Pause, Phase, Slot};
use super::model::{
    Action, ChangeReason, InstanceId, RequestFailure, RequestRefusal, RunOutcome, RunRequest,
    WorkerChange, WorkerState,
};
use super::state::{ActiveRequest, Lifecycle};
use crate::drain::DrainMode;

impl Lifecycle {
    /// Starts a request. [`Action::RequestDone`] reports its end.
    ///
    /// # Errors
    ///
    /// If another request is in progress, or the run is ending. [`RunRequest::Stop`] always succeeds
    /// and aborts the request in progress.
    pub fn request(
        &mut self,
        request: RunRequest,
        now: Duration,
    ) -> Result<Vec<Action>, RequestRefusal> {
        if let RunRequest::Stop { now: is_urgent } = request {
            let mut actions = self.release_client();
            self.stop(is_urgent, now, &mut actions);
            return Ok(actions);
        }
        if self.stopping {
            return Err(RequestRefusal::Stopping);
        }
        let mut actions = self.release_client();
        if let Some(busy) = self.busy() {
            return Err(RequestRefusal::Busy(busy));
        }
        self.request_since = now;
        self.is_urgent = matches!(request, RunRequest::Restart { now: true, .. });
        match request {
            RunRequest::Restart { surge, .. } => {
                let surge = surge.unwrap_or(self.settings.surge);
                let remaining = self.slots.keys().copied().collect();
                self.active_request =
                    Some(ActiveRequest::Restart { surge, remaining, in_progress: BTreeSet::new() });
            }
            RunRequest::Upgrade { command } => {
                let old_command = self.first_command();
                let remaining = self.slots.keys().copied().collect();
                self.active_request =
                    Some(ActiveRequest::Upgrade { command, old_command, remaining });
            }
            RunRequest::Scale { copies } => self.scale(copies, now, &mut actions),
            RunRequest::Stop { .. } => {}
        }
        self.advance(now, &mut actions);
        Ok(actions)
    }

    /// Reports the end of a request of which only drains remain: another request may begin.
    pub fn release_client(&mut self) -> Vec<Action> {
        match self.active_request.take() {
            Some(ActiveRequest::Drains(result)) => vec![Action::RequestDone(result)],
            other => {
                self.active_request = other;
                Vec::new()
            }
        }
    }

    /// Kills all instances.
    pub fn kill(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = self.release_client();
        self.stop(true, now, &mut actions);
        for (id, instance) in &mut self.instances {
            instance.phase = Phase::Killed;
            actions.push(Action::Kill(*id));
        }
        actions
    }

    fn stop(&mut self, is_urgent: bool, now: Duration, actions: &mut Vec<Action>) {
        if std::mem::replace(&mut self.stopping, true) {
            if is_urgent {
                self.end_drains(now, actions);
            }
            return;
        }
        self.is_urgent = is_urgent;
        if self.active_request.take().is_some() {
            actions.push(Action::RequestDone(Err(RequestFailure::Stopping)));
        }
        actions.push(Action::StopAccepting);
        let all: Vec<InstanceId> = self.instances.keys().copied().collect();
        for id in all {
            self.retire(id, now, actions);
        }
        if is_urgent {
            self.end_drains(now, actions);
        }
        self.advance(now, actions);
    }

    /// Ends every drain now.
    fn end_drains(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let all: Vec<InstanceId> = self.instances.keys().copied().collect();
        for id in all {
            actions.extend(self.drained(id, now));
            actions.extend(self.children_finished(id, now));
        }
    }

    /// The command of the first worker; all have the same, except during an upgrade.
    fn first_command(&self) -> usize {
        self.slots.values().next().map_or(0, |slot| slot.command)
    }

    fn scale(&mut self, copies: u16, now: Duration, actions: &mut Vec<Action>) {
        self.settings.copies = copies;
        let command = self.first_command();
        let surplus: Vec<u16> = self.slots.keys().copied().filter(|n| *n > copies).collect();
        let mut waiting = BTreeSet::new();
        for ordinal in surplus {
            let Some(slot) = self.slots.remove(&ordinal) else { continue };
            for id in [slot.serving, slot.replacement].into_iter().flatten() {
                waiting.insert(ordinal);
                self.retire(id, now, actions);
            }
        }
        let new: Vec<u16> = (1..=copies).filter(|n| !self.slots.contains_key(n)).collect();
        for ordinal in new {
            waiting.insert(ordinal);
            self.slots.insert(ordinal, Slot { command, ..Slot::default() });
            self.start(ordinal, now, actions);
        }
        self.active_request = Some(ActiveRequest::Scale { waiting });
    }

    /// Takes an instance out of service: a ready one drains first.
    fn retire(&mut self, id: InstanceId, now: Duration, actions: &mut Vec<Action>) {
        let grace = self.settings.grace;
        let Some(command) = self.command(id) else { return };
        let mode = if self.is_urgent { DrainMode::None } else { self.drain_mode(command) };
        let Some(instance) = self.instances.get_mut(&id) else { return };
        match instance.phase {
            Phase::Ready => {
                instance.phase = Phase::Draining;
                instance.since = now;
                actions.extend([Action::UpdateSteering, Action::Drain(id, mode)]);
            }
            Phase::Starting { .. } => {
                instance.phase = Phase::Terminating { deadline: now + grace };
                instance.since = now;
                actions.push(Action::Terminate(id));
            }
            Phase::Draining
            | Phase::Terminating { .. }
            | Phase::Outlived { .. }
            | Phase::Killed => return,
        }
        actions.extend(self.report_change(id, None));
    }

    pub(super) fn ready_timed_out(
        &mut self,
        id: InstanceId,
        reason: ChangeReason,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some(instance) = self.instances.get(&id) else { return };
        let (ordinal, command) = (instance.ordinal, instance.command);
        let state = WorkerState::Draining;
        actions.push(Action::Report(WorkerChange {
            ordinal,
            instance: Some(id),
            state,
            reason: Some(reason.clone()),
        }));
        let Some(slot) = self.slots.get_mut(&ordinal) else { return };
        let serves = slot.serving.is_some();
        if slot.replacement == Some(id) {
            slot.replacement = None;
        }
        self.retire(id, now, actions);
        self.replacement_failed(ordinal, command, reason.clone(), now, actions);
        if !serves {
            self.count_crash(ordinal, reason, Exit::Code(1), false, now, actions);
        }
    }

    pub(super) fn instance_ready(
        &mut self,
        ordinal: u16,
        id: InstanceId,
        addresses: BTreeSet<String>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let upgrading = matches!(self.active_request, Some(ActiveRequest::Upgrade { .. }));
        let Some(slot) = self.slots.get_mut(&ordinal) else { return };
        // During an upgrade, both instances stay until all new ones are ready.
        if slot.replacement == Some(id) && !(upgrading && slot.serving.is_some()) {
            slot.replacement = None;
            slot.addresses = addresses;
            if let Some(old) = slot.serving.replace(id) {
                self.retire(old, now, actions);
            }
        }
        self.advance(now, actions);
    }

    /// An instance ended, or is terminated, before it was ready.
    pub(super) fn replacement_failed(
        &mut self,
        ordinal: u16,
        failed_command: usize,
        reason: ChangeReason,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let failure = RequestFailure::NotReady(ordinal, reason);
        match self.active_request.take() {
            Some(ActiveRequest::Upgrade { command, old_command, .. })
                if command == failed_command =>
            {
                self.active_request = Some(ActiveRequest::Drains(Err(failure)));
                let replacements: Vec<InstanceId> = self
                    .slots
                    .values_mut()
                    .filter_map(|slot| {
                        slot.command = old_command;
                        if slot.serving.is_none() {
                            slot.pause = Some(Pause::Until(now));
                        }
                        slot.replacement.take()
                    })
                    .collect();
                for id in replacements {
                    self.retire(id, now, actions);
                }
            }
            Some(ActiveRequest::Restart { in_progress, .. }) if in_progress.contains(&ordinal) => {
                self.active_request = Some(ActiveRequest::Drains(Err(failure)));
            }
            Some(ActiveRequest::Scale { waiting }) if waiting.contains(&ordinal) => {
                actions.push(Action::RequestDone(Err(failure)));
            }
            other => self.active_request = other,
        }
    }

    /// Continues the request in progress, and ends the run if nothing is remaining.
    pub(super) fn advance(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.stopping {
            if self.instances.is_empty() && !std::mem::replace(&mut self.ended, true) {
                actions.push(Action::EndRun(RunOutcome::Stopped));
            }
            return;
        }
        match self.active_request.take() {
            None => {}
            Some(ActiveRequest::Restart { surge, remaining, in_progress }) => {
                self.advance_restart(surge, remaining, in_progress, now, actions);
            }
            Some(ActiveRequest::Upgrade { command, old_command, remaining }) => {
                self.advance_upgrade(command, old_command, remaining, now, actions);
            }
            Some(ActiveRequest::Scale { mut waiting }) => {
                waiting.retain(|ordinal| !self.slot_is_settled(*ordinal));
                match waiting.is_empty() {
                    true => self.finish(Ok(()), actions),
                    false => self.active_request = Some(ActiveRequest::Scale { waiting }),
                }
            }
            Some(ActiveRequest::Drains(result)) => self.finish(result, actions),
        }
        let given_up = |slot: &Slot| match slot.pause {
            Some(Pause::GivenUp(exit)) if slot.serving.or(slot.replacement).is_none() => Some(exit),
            _ => None,
        };
        let exits: Option<Vec<Exit>> = self.slots.values().map(given_up).collect();
        if let Some(exit) = exits.and_then(|exits| exits.last().copied())
            && self.instances.is_empty()
        {
            (self.stopping, self.ended) = (true, true);
            actions.push(Action::EndRun(RunOutcome::GivenUp(exit)));
        }
    }

    /// Ends the request in progress when the instances that it ends are gone.
    fn finish(&mut self, result: Result<(), RequestFailure>, actions: &mut Vec<Action>) {
        let is_leaving = |instance: &Instance| {
            instance.phase.is_leaving() && instance.since >= self.request_since
        };
        match self.instances.values().any(is_leaving) {
            true => self.active_request = Some(ActiveRequest::Drains(result)),
            false => actions.push(Action::RequestDone(result)),
        }
    }

    /// Whether a worker has reached its final state: one ready instance, or none if it is surplus.
    /// Instances that end do not count.
    fn slot_is_settled(&self, ordinal: u16) -> bool {
        match self.slots.get(&ordinal) {
            None => true,
            Some(Slot { pause: Some(Pause::GivenUp(_)), replacement: None, .. }) => true,
            Some(Slot { serving: None, replacement: Some(id), .. }) => self.never_listens(*id),
            Some(Slot { serving: None, .. }) => false,
            Some(Slot { replacement: Some(_), .. }) => false,
            Some(Slot { serving: Some(id), .. }) => self.phase(*id) == Some(Phase::Ready),
        }
    }

    fn never_listens(&self, id: InstanceId) -> bool {
        let instance = self.instances.get(&id);
        instance.is_some_and(|instance| instance.silence_reported && !instance.has_ready_deadline())
    }

    fn advance_restart(
        &mut self,
        surge: u16,
        mut remaining: BTreeSet<u16>,
        mut in_progress: BTreeSet<u16>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        in_progress.retain(|ordinal| !self.slot_is_settled(*ordinal));
        // Without surge, the new instance starts after the old one has ended.
        for ordinal in in_progress.clone() {
            let is_empty = self.slots.get(&ordinal).is_some_and(|slot| {
                slot.serving.is_none() && slot.replacement.is_none() && slot.pause.is_none()
            });
            let has_ended = surge > 0 || self.instances.values().all(|it| it.ordinal != ordinal);
            if is_empty && has_ended {
                self.start(ordinal, now, actions);
            }
        }
        while in_progress.len() < usize::from(surge.max(1)) {
            let Some(ordinal) = remaining.pop_first() else { break };
            let Some(slot) = self.slots.get_mut(&ordinal) else { continue };
            // A worker that waits or is given up restarts now.
            slot.crashes = 0;
            // An instance that was starting before the request does not fulfil it.
            let (serving, starting) = (slot.serving, slot.replacement.take());
            let old = starting.or(serving.filter(|_| surge == 0));
            if let Some(old) = old {
                self.retire(old, now, actions);
            }
            if surge > 0 || old.is_none() {
                self.start(ordinal, now, actions);
            }
            in_progress.insert(ordinal);
        }
        match in_progress.is_empty() {
            true => self.finish(Ok(()), actions),
            false => {
                self.active_request =
                    Some(ActiveRequest::Restart { surge, remaining, in_progress });
            }
        }
    }

    fn advance_upgrade(
        &mut self,
        command: usize,
        old_command: usize,
        mut remaining: BTreeSet<u16>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let is_new = |id: &InstanceId| self.command(*id) == Some(command);
        let in_progress = self
            .slots
            .values()
            .filter_map(|slot| slot.replacement)
            .any(|id| is_new(&id) && self.phase(id) != Some(Phase::Ready));
        if !in_progress && let Some(ordinal) = remaining.pop_first() {
            if let Some(slot) = self.slots.get_mut(&ordinal) {
                slot.command = command;
                slot.crashes = 0;
                // An instance that was starting before has the old command.
                if let Some(old) = slot.replacement.take() {
                    self.retire(old, now, actions);
                }
                self.start(ordinal, now, actions);
            }
            self.active_request = Some(ActiveRequest::Upgrade { command, old_command, remaining });
            return;
        }
        if in_progress || !remaining.is_empty() {
            self.active_request = Some(ActiveRequest::Upgrade { command, old_command, remaining });
            return;
        }
        // All new instances are ready: what remains is a restart whose old instances end.
        let mut old = Vec::new();
        for slot in self.slots.values_mut() {
            let Some(new) = slot.replacement.take() else { continue };
            if let Some(instance) = self.instances.get(&new) {
                slot.addresses = instance.listening.clone();
            }
            old.extend(slot.serving.replace(new));
        }
        for id in old {
            self.retire(id, now, actions);
        }
        let in_progress = self.slots.keys().copied().collect();
        self.advance_restart(1, BTreeSet::new(), in_progress, now, actions);
    }
}
