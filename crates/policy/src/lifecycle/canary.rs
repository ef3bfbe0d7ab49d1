//! A canary: workers of another command beside those of the run, with a share of the new connections.
//!
//! Each canary worker has the number of a worker of the run, whose place it takes when the canary is
//! promoted. Until then both serve, and the share of the canary is independent of the number of its
//! workers. A failure of the canary rolls it back:
//!
//! | canary | a worker ends without a request | a worker is not ready in time |
//! |---|---|---|
//! | starts | rolled back | rolled back |
//! | waits for `--promote` | restarts, as other workers do; rolled back when it is given up | the same |
//! | promotes itself after a time | rolled back | rolled back |

use std::collections::BTreeSet;
use std::time::Duration;

use super::instance::{Pause, Place, Slot};
use super::model::{
    Action, Canary, CanaryEnd, CanaryOutcome, ChangeReason, InstanceId, RequestFailure,
    canary_workers,
};
use super::state::{ActiveRequest, Lifecycle};
use crate::traffic::model::CanaryShare;

/// The limit of restarts of a canary worker after consecutive crashes, in a run without a limit.
pub(super) const CANARY_RESTARTS: u32 = 5;

impl Lifecycle {
    /// The canary of the run.
    #[must_use]
    pub fn canary(&self) -> Option<&Canary> {
        self.canary.as_ref()
    }

    /// How the last canary ended; `None` after a later upgrade.
    #[must_use]
    pub fn canary_end(&self) -> Option<&CanaryEnd> {
        self.canary_end.as_ref()
    }

    /// Whether the instance is a canary.
    #[must_use]
    pub fn is_canary(&self, id: InstanceId) -> bool {
        self.instances.get(&id).is_some_and(|instance| instance.place.canary)
    }

    /// The number of places of the canary.
    #[must_use]
    pub fn canary_copies(&self) -> u16 {
        let count = self.slots.keys().filter(|place| place.canary).count();
        u16::try_from(count).unwrap_or(u16::MAX)
    }

    /// The command of the workers that serve, without the canary.
    #[must_use]
    pub fn serving_command(&self) -> Option<usize> {
        let serving = self.serving();
        let main = serving.iter().find(|id| !self.is_canary(**id));
        main.and_then(|id| self.command(*id))
    }

    /// Begins a canary: its workers start one after another, and get their share together.
    pub(super) fn begin_canary(
        &mut self,
        command: usize,
        share: CanaryShare,
        promotes_after: Option<Duration>,
    ) {
        self.canary_end = None;
        self.canary = Some(Canary { command, share, since: None, promotes_after });
        let workers = 1..=canary_workers(self.settings.copies, share);
        let places: BTreeSet<Place> = workers.map(Place::canary).collect();
        for place in &places {
            let worker = self.slots.get(&Place::main(place.ordinal));
            let addresses = worker.map(|slot| slot.addresses.clone()).unwrap_or_default();
            self.slots.insert(*place, Slot { command, addresses, ..Slot::default() });
        }
        self.active_request = Some(ActiveRequest::Canary { remaining: places });
    }

    pub(super) fn advance_canary(
        &mut self,
        mut remaining: BTreeSet<Place>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let is_ready = |(place, _): &(&Place, &Slot)| self.slot_is_settled(**place);
        let mut begun = self.slots.iter().filter(|(it, _)| it.canary && !remaining.contains(it));
        let one_starts = begun.any(|slot| !is_ready(&slot));
        if !one_starts && let Some(place) = remaining.pop_first() {
            self.active_request = Some(ActiveRequest::Canary { remaining });
            return self.start(place, now, actions);
        }
        if one_starts {
            self.active_request = Some(ActiveRequest::Canary { remaining });
            return;
        }
        if let Some(canary) = &mut self.canary {
            canary.since = Some(now);
        }
        actions.push(Action::UpdateSteering);
        actions.push(Action::RequestDone(Ok(())));
    }

    /// Begins to replace the other workers by those of the canary's command.
    pub(super) fn promote(&mut self) {
        let Some(canary) = &self.canary else { return };
        let has_canary = |place: &Place| self.slots.contains_key(&Place::canary(place.ordinal));
        let others = self.slots.keys().filter(|place| !place.canary && !has_canary(place));
        self.active_request = Some(ActiveRequest::Upgrade {
            command: canary.command,
            old_command: self.main_command(),
            remaining: others.copied().collect(),
            moves: false,
        });
    }

    /// Promotes the canary if its time is over and no request is in progress.
    pub(super) fn promote_in_time(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let is_due = |canary: &Canary| canary.promotes_at().is_some_and(|at| at <= now);
        if self.canary.as_ref().is_some_and(is_due) && self.accepts_request() {
            actions.extend(self.release_client());
            self.request_since = now;
            self.is_urgent = false;
            self.promote();
        }
    }

    /// Whether no request is in progress, or one that starts or promotes the canary.
    pub(super) fn is_of_canary(&self) -> bool {
        use ActiveRequest::{Canary, Drains, Restart, Scale, Upgrade};
        match self.active_request {
            None | Some(Canary { .. } | Drains(_) | Upgrade { .. }) => self.canary.is_some(),
            Some(Restart { .. } | Scale { .. }) => false,
        }
    }

    /// Whether a worker of the run serves beside this place.
    pub(super) fn has_worker_beside(&self, place: Place) -> bool {
        let main = self.slots.get(&Place::main(place.ordinal));
        place.canary && main.is_some_and(|slot| slot.serving.is_some())
    }

    /// Whether every place of the canary has a ready worker.
    pub(super) fn canary_is_settled(&self) -> bool {
        self.slots.keys().filter(|it| it.canary).all(|place| self.slot_is_settled(*place))
    }

    /// Rolls the canary back. A request that starts or promotes it fails.
    pub(super) fn roll_back_on_request(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = self.release_client();
        self.request_since = now;
        self.is_urgent = false;
        self.roll_back(CanaryOutcome::RolledBack, now, &mut actions);
        actions.extend(self.release_client());
        self.active_request = Some(ActiveRequest::Drains(Ok(())));
        self.advance(now, &mut actions);
        actions
    }

    /// Puts the workers of the canary into the places of the run's. Gives the instances that they
    /// replace.
    pub(super) fn merge_canary(
        &mut self,
        now: Duration,
        actions: &mut Vec<Action>,
    ) -> Vec<InstanceId> {
        let Some(canary) = self.canary.take() else { return Vec::new() };
        let places: Vec<Place> = self.slots.keys().copied().filter(|it| it.canary).collect();
        let mut old = Vec::new();
        for place in places {
            let Some(slot) = self.slots.remove(&place) else { continue };
            let main = Place::main(place.ordinal);
            for id in [slot.serving, slot.replacement].into_iter().flatten() {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.place = main;
                }
            }
            if let Some(before) = self.slots.insert(main, slot) {
                old.extend([before.serving, before.replacement].into_iter().flatten());
            }
        }
        let by_itself = canary.promotes_at().is_some_and(|at| at <= now);
        let outcome = CanaryOutcome::Promoted { by_itself };
        self.end_canary(canary.command, outcome, now, actions);
        old
    }

    /// Ends the canary: its workers get no new connections, drain and end.
    pub(super) fn roll_back(
        &mut self,
        outcome: CanaryOutcome,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some(canary) = self.canary.take() else { return };
        let failure = match &outcome {
            CanaryOutcome::Failed(ordinal, reason) => {
                RequestFailure::Canary(*ordinal, reason.clone())
            }
            _ => RequestFailure::RolledBack,
        };
        match self.active_request.take() {
            Some(ActiveRequest::Canary { .. }) => {
                self.active_request = Some(ActiveRequest::Drains(Err(failure)));
            }
            Some(ActiveRequest::Upgrade { command, old_command, .. })
                if command == canary.command =>
            {
                self.active_request = Some(ActiveRequest::Drains(Err(failure)));
                self.undo_upgrade(old_command, now, actions);
            }
            other => self.active_request = other,
        }
        let is_leaving = |place: &Place| place.canary;
        let places: Vec<Place> = self.slots.keys().copied().filter(is_leaving).collect();
        for place in &places {
            let Some(slot) = self.slots.get_mut(place) else { continue };
            slot.pause = None;
            let (serving, starting) = (slot.serving, slot.replacement.take());
            actions.extend(starting.map(Action::Withdraw));
            for id in [serving, starting].into_iter().flatten() {
                self.retire(id, now, actions);
            }
        }
        places.iter().for_each(|place| drop(self.slots.remove(place)));
        actions.push(Action::UpdateSteering);
        self.end_canary(canary.command, outcome, now, actions);
    }

    fn end_canary(
        &mut self,
        command: usize,
        outcome: CanaryOutcome,
        at: Duration,
        actions: &mut Vec<Action>,
    ) {
        let end = CanaryEnd { at, command, outcome };
        self.canary_end = Some(end.clone());
        actions.push(Action::CanaryEnded(end));
    }

    /// Replaces a worker that serves, if no request is in progress. Its replacement gets a queue that a
    /// worker of the canary has left.
    pub fn replace_worker(&mut self, ordinal: u16, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let place = Place::main(ordinal);
        let serves = |slot: &Slot| slot.serving.is_some() && slot.replacement.is_none();
        if self.accepts_request() && self.slots.get(&place).is_some_and(serves) {
            self.start(place, now, &mut actions);
        }
        actions
    }

    /// Rolls the canary back if the failure of a worker of its command means that. Gives whether it did.
    pub(super) fn canary_failed(
        &mut self,
        place: Place,
        reason: &ChangeReason,
        now: Duration,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(canary) = &self.canary else { return false };
        let is_unattended = canary.promotes_after.is_some() || canary.since.is_none();
        if is_unattended {
            let outcome = CanaryOutcome::Failed(place.ordinal, reason.clone());
            self.roll_back(outcome, now, actions);
        }
        is_unattended
    }

    /// Retires the replacements of an upgrade that failed. The workers keep their command.
    pub(super) fn undo_upgrade(
        &mut self,
        old_command: usize,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let main = self.slots.iter_mut().filter(|(place, _)| !place.canary);
        let replacements: Vec<InstanceId> = main
            .filter_map(|(_, slot)| {
                slot.command = old_command;
                if slot.serving.is_none() {
                    slot.pause = Some(Pause::Until(now));
                }
                slot.replacement.take()
            })
            .collect();
        actions.extend(replacements.iter().copied().map(Action::Withdraw));
        for id in replacements {
            self.retire(id, now, actions);
        }
    }
}
