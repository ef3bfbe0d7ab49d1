//! The steps of a request in progress.

use std::collections::BTreeSet;
use std::time::Duration;

use super::exit::Exit;
use super::instance::{Instance, Pause, Phase, Place, Slot};
use super::model::{Action, InstanceId, RequestFailure, RunOutcome};
use super::state::{ActiveRequest, Lifecycle};

impl Lifecycle {
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
            Some(ActiveRequest::Upgrade { command, old_command, remaining, moves }) => {
                self.advance_upgrade(command, (old_command, moves), remaining, now, actions);
            }
            Some(ActiveRequest::Canary { remaining }) => {
                self.advance_canary(remaining, now, actions);
            }
            Some(ActiveRequest::Scale { mut waiting }) => {
                waiting.retain(|place| !self.slot_is_settled(*place));
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
    pub(super) fn slot_is_settled(&self, place: Place) -> bool {
        match self.slots.get(&place) {
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
        mut remaining: BTreeSet<Place>,
        mut in_progress: BTreeSet<Place>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        in_progress.retain(|place| !self.slot_is_settled(*place));
        // Without surge, the new instance starts after the old one has ended.
        for place in in_progress.clone() {
            let is_empty = self.slots.get(&place).is_some_and(|slot| {
                slot.serving.is_none() && slot.replacement.is_none() && slot.pause.is_none()
            });
            let has_ended = surge > 0 || self.instances.values().all(|it| it.place != place);
            if is_empty && has_ended {
                self.start(place, now, actions);
            }
        }
        while in_progress.len() < usize::from(surge.max(1)) {
            let Some(place) = remaining.pop_first() else { break };
            let Some(slot) = self.slots.get_mut(&place) else { continue };
            // A worker that waits or is given up restarts now.
            slot.crashes = 0;
            // An instance that was starting before the request does not fulfil it.
            let (serving, starting) = (slot.serving, slot.replacement.take());
            let old = starting.or(serving.filter(|_| surge == 0));
            if let Some(old) = old {
                self.retire(old, now, actions);
            }
            if surge > 0 || old.is_none() {
                self.start(place, now, actions);
            }
            in_progress.insert(place);
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
        (old_command, moves): (usize, bool),
        mut remaining: BTreeSet<Place>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let is_new = |id: &InstanceId| self.command(*id) == Some(command);
        let in_progress = self
            .slots
            .values()
            .filter_map(|slot| slot.replacement)
            .any(|id| is_new(&id) && self.phase(id) != Some(Phase::Ready));
        if !in_progress && let Some(place) = remaining.pop_first() {
            // The start looks at the request.
            let next = ActiveRequest::Upgrade { command, old_command, remaining, moves };
            self.active_request = Some(next);
            if let Some(slot) = self.slots.get_mut(&place) {
                slot.command = command;
                slot.crashes = 0;
                // An instance that was starting before has the old command.
                if let Some(old) = slot.replacement.take() {
                    self.retire(old, now, actions);
                }
                self.start(place, now, actions);
            }
            return;
        }
        if in_progress || !remaining.is_empty() || !self.canary_is_settled() {
            let next = ActiveRequest::Upgrade { command, old_command, remaining, moves };
            self.active_request = Some(next);
            return;
        }
        // All new instances are ready: what remains is a restart whose old instances end.
        let mut old = self.merge_canary(now, actions);
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
