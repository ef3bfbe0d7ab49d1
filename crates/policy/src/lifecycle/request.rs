//! Requests: restart, upgrade, scale, stop.

use std::collections::BTreeSet;
use std::time::Duration;

use super::exit::Exit;
use super::instance::{Instance, Phase, Place, Slot};
use super::model::{
    Action, ChangeReason, InstanceId, RequestFailure, RequestRefusal, RunRequest, WorkerState,
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
        if let RunRequest::Leave { after } = request {
            let at = now.saturating_add(after);
            self.stops_at = Some(self.stops_at.map_or(at, |earlier| earlier.min(at)));
            return Ok(Vec::new());
        }
        if self.stops_at.is_some() {
            return Err(RequestRefusal::Leaving);
        }
        match (&request, self.canary.is_some()) {
            (
                RunRequest::Upgrade { .. } | RunRequest::Move { .. } | RunRequest::Canary { .. },
                true,
            ) => return Err(RequestRefusal::Canary),
            (RunRequest::Promote | RunRequest::RollBack, false) => {
                return Err(RequestRefusal::NoCanary);
            }
            (RunRequest::RollBack, true) if self.is_of_canary() => {
                return Ok(self.roll_back_on_request(now));
            }
            _ => {}
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
            RunRequest::Upgrade { command } => self.begin_upgrade(command, false),
            RunRequest::Move { command } => self.begin_upgrade(command, true),
            RunRequest::Scale { copies } => self.scale(copies, now, &mut actions),
            RunRequest::Canary { command, share, promotes_after } => {
                self.begin_canary(command, share, promotes_after);
            }
            RunRequest::Promote => self.promote(),
            RunRequest::RollBack | RunRequest::Leave { .. } | RunRequest::Stop { .. } => {}
        }
        self.advance(now, &mut actions);
        Ok(actions)
    }

    fn begin_upgrade(&mut self, command: usize, moves: bool) {
        self.canary_end = None;
        let old_command = self.main_command();
        let remaining = self.slots.keys().copied().collect();
        self.active_request =
            Some(ActiveRequest::Upgrade { command, old_command, remaining, moves });
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
        self.canary = None;
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

    /// Begins to stop when the time of the announcement is over.
    pub(super) fn leave_in_time(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.stops_at().is_some_and(|at| at <= now) {
            actions.extend(self.release_client());
            self.stop(false, now, actions);
        }
    }

    /// Ends every drain now.
    fn end_drains(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let all: Vec<InstanceId> = self.instances.keys().copied().collect();
        for id in all {
            actions.extend(self.drained(id, now));
            actions.extend(self.children_finished(id, now));
        }
    }

    /// The command of the first worker; all have the same, except during an upgrade, and the canary.
    pub(super) fn main_command(&self) -> usize {
        self.slots.values().next().map_or(0, |slot| slot.command)
    }

    pub(super) fn scale(&mut self, copies: u16, now: Duration, actions: &mut Vec<Action>) {
        self.settings.copies = copies;
        let command = self.main_command();
        let is_surplus = |place: &Place| place.ordinal > copies;
        let surplus: Vec<Place> = self.slots.keys().copied().filter(is_surplus).collect();
        let mut waiting = BTreeSet::new();
        for place in surplus {
            let Some(slot) = self.slots.remove(&place) else { continue };
            for id in [slot.serving, slot.replacement].into_iter().flatten() {
                waiting.insert(place);
                self.retire(id, now, actions);
            }
        }
        // A worker that starts meanwhile is one of the workers that the run is to have.
        waiting.extend(self.slots.keys().filter(|place| !self.slot_is_settled(**place)));
        let wanted = (1..=copies).map(Place::main);
        let new: Vec<Place> = wanted.filter(|it| !self.slots.contains_key(it)).collect();
        for place in new {
            waiting.insert(place);
            self.slots.insert(place, Slot { command, ..Slot::default() });
            self.start(place, now, actions);
        }
        self.active_request = Some(ActiveRequest::Scale { waiting });
    }

    /// Whether an instance that starts can have clients. Steering keeps them from a replacement beside the
    /// worker that serves, but not from a worker that is the only one on its address.
    fn may_have_clients_before_ready(&self, id: InstanceId) -> bool {
        let Some(instance) = self.instances.get(&id) else { return false };
        let slot = self.slots.get(&instance.place);
        let replaces = slot.is_some_and(|slot| slot.serving.is_some_and(|serving| serving != id))
            || self.has_worker_beside(instance.place);
        instance.has_other_addresses() || (!replaces && !instance.listening.is_empty())
    }

    /// Takes an instance out of service: one that may have clients drains first.
    pub(super) fn retire(&mut self, id: InstanceId, now: Duration, actions: &mut Vec<Action>) {
        let may_have_clients = self.may_have_clients_before_ready(id);
        self.retire_one(id, may_have_clients, now, actions);
    }

    fn retire_one(
        &mut self,
        id: InstanceId,
        may_have_clients: bool,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let grace = self.settings.grace;
        let Some(command) = self.command(id) else { return };
        let mode = if self.is_urgent { DrainMode::None } else { self.drain_mode(command) };
        let Some(instance) = self.instances.get_mut(&id) else { return };
        match instance.phase {
            Phase::Starting { .. } if may_have_clients => {
                instance.phase = Phase::Draining;
                instance.since = now;
                actions.push(Action::Drain(id, mode));
            }
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
        let (place, command) = (instance.place, instance.command);
        let change = place.change(Some(id), WorkerState::Draining, Some(reason.clone()));
        actions.push(Action::Report(change));
        let has_worker_beside = self.has_worker_beside(place);
        let Some(slot) = self.slots.get_mut(&place) else { return };
        let serves = slot.serving.is_some();
        if slot.replacement == Some(id) {
            slot.replacement = None;
        }
        if serves || has_worker_beside {
            actions.push(Action::Withdraw(id));
        }
        // On the addresses that its readiness check tried, it answers nobody.
        let has_other_addresses =
            self.instances.get(&id).is_some_and(Instance::has_other_addresses);
        self.retire_one(id, has_other_addresses, now, actions);
        self.replacement_failed(place, command, reason.clone(), now, actions);
        if !serves {
            self.count_crash(place, reason, Exit::Code(1), false, now, actions);
        }
    }

    pub(super) fn instance_ready(
        &mut self,
        place: Place,
        id: InstanceId,
        addresses: BTreeSet<String>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let upgrading = matches!(self.active_request, Some(ActiveRequest::Upgrade { .. }));
        let Some(slot) = self.slots.get_mut(&place) else { return };
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
        place: Place,
        failed_command: usize,
        reason: ChangeReason,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        if place.canary && self.canary_failed(place, &reason, now, actions) {
            return;
        }
        let failure = RequestFailure::NotReady(place.ordinal, reason.clone());
        match self.active_request.take() {
            Some(ActiveRequest::Upgrade { command, old_command, .. })
                if command == failed_command && !place.canary =>
            {
                self.active_request = Some(ActiveRequest::Drains(Err(failure)));
                self.undo_upgrade(old_command, now, actions);
                self.canary_failed(place, &reason, now, actions);
            }
            Some(ActiveRequest::Restart { in_progress, .. }) if in_progress.contains(&place) => {
                self.active_request = Some(ActiveRequest::Drains(Err(failure)));
            }
            Some(ActiveRequest::Scale { waiting }) if waiting.contains(&place) => {
                actions.push(Action::RequestDone(Err(failure)));
            }
            other => self.active_request = other,
        }
    }
}
