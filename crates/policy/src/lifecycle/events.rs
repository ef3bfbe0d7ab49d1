//! Events of instances, and the passage of time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::crash::resets;
use super::exit::Exit;
use super::instance::{CHILDREN_GRACE, Instance, Pause, Phase, Place, Slot};
use super::model::{Action, ChangeReason, InstanceId, WorkerState};
use super::server_sockets::LAST_ADDRESS;
use super::state::{Lifecycle, SILENCE_TIMEOUT};

impl Lifecycle {
    /// Starts every worker.
    pub fn start_all(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        for ordinal in 1..=self.settings.copies {
            self.slots.insert(Place::main(ordinal), Slot::default());
            self.start(Place::main(ordinal), now, &mut actions);
        }
        actions
    }

    /// Handles everything that is due.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let due: Vec<InstanceId> = self
            .instances
            .iter()
            .filter(|(_, instance)| self.deadline(instance).is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.on_deadline(id, now, &mut actions);
        }
        let can_start = |slot: &Slot| {
            let pause_is_over = matches!(slot.pause, Some(Pause::Until(end)) if end <= now);
            pause_is_over && slot.replacement.is_none() && !self.stopping
        };
        let startable: Vec<Place> = self
            .slots
            .iter()
            .filter(|(_, slot)| can_start(slot))
            .map(|(place, _)| *place)
            .collect();
        for place in startable {
            self.start(place, now, &mut actions);
        }
        self.leave_in_time(now, &mut actions);
        self.promote_in_time(now, &mut actions);
        self.advance(now, &mut actions);
        actions
    }

    fn on_deadline(&mut self, id: InstanceId, now: Duration, actions: &mut Vec<Action>) {
        let ready_timeout = self.settings.ready_timeout;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let place = instance.place;
        let report = |state, reason| Action::Report(place.change(Some(id), state, Some(reason)));
        match instance.phase {
            Phase::Starting { .. } => {
                if instance.is_silent() && now >= instance.since + SILENCE_TIMEOUT {
                    instance.silence_reported = true;
                    actions.push(report(WorkerState::Starting, ChangeReason::Silent));
                }
                if instance.has_ready_deadline() && now >= instance.since + ready_timeout {
                    let reason = ChangeReason::NotReady(instance.lacks());
                    self.ready_timed_out(id, reason, now, actions);
                }
            }
            Phase::Terminating { .. } => {
                instance.phase = Phase::Killed;
                actions.extend([
                    report(WorkerState::Draining, ChangeReason::Killed),
                    Action::Kill(id),
                ]);
            }
            Phase::Outlived { .. } => self.end_children(id, now, actions),
            Phase::Ready | Phase::Draining | Phase::Killed => {}
        }
    }

    /// Starts an instance of a worker, as the replacement of the serving one, if any.
    pub(super) fn start(&mut self, place: Place, now: Duration, actions: &mut Vec<Action>) {
        let moves = self.moves();
        let Some(slot) = self.slots.get_mut(&place) else { return };
        self.last_instance += 1;
        let id = self.last_instance;
        slot.replacement = Some(id);
        slot.pause = None;
        slot.waits_for = None;
        let (command, serving) = (slot.command, slot.serving);
        let instance = Instance {
            place,
            command,
            since: now,
            phase: Phase::Starting { checking: false },
            listening: BTreeSet::new(),
            required: match moves == Some(command) {
                true => BTreeSet::new(),
                false => slot.addresses.clone(),
            },
            must_listen: self.settings.must_listen,
            silence_reported: false,
            check_result: None,
            first_exit: None,
        };
        self.instances.insert(id, instance);
        let ordinal = place.ordinal;
        let beside = self.slots.get(&Place::main(ordinal)).filter(|_| place.canary);
        let predecessor = serving.or(beside.and_then(|slot| slot.serving));
        actions.push(Action::Start { instance: id, ordinal, command, predecessor });
    }

    /// The worker could not be started, for the reason `why`.
    pub fn start_failed(&mut self, id: InstanceId, why: String, now: Duration) -> Vec<Action> {
        self.instance_ended(id, ChangeReason::NotStarted(why), Exit::Code(127), now)
    }

    /// The first process runs.
    pub fn started(&self, id: InstanceId) -> Vec<Action> {
        self.report_change(id, None).into_iter().collect()
    }

    pub(super) fn report_change(
        &self,
        id: InstanceId,
        reason: Option<ChangeReason>,
    ) -> Option<Action> {
        let instance = self.instances.get(&id)?;
        Some(Action::Report(instance.place.change(Some(id), instance.phase.state(), reason)))
    }

    /// The instance listens on this address.
    pub fn listening(&mut self, id: InstanceId, address: String, now: Duration) -> Vec<Action> {
        let Some(instance) = self.instances.get_mut(&id) else { return Vec::new() };
        instance.listening.insert(address.clone());
        let complete = instance.listening.is_superset(&instance.required);
        let place = instance.place;
        match instance.phase {
            Phase::Starting { ref mut checking } if complete && !*checking => {
                *checking = true;
                vec![Action::CheckReady(id)]
            }
            Phase::Ready if now < instance.since + LAST_ADDRESS => {
                if let Some(slot) = self.slots.get_mut(&place) {
                    slot.addresses.insert(address);
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The readiness check succeeded.
    pub fn ready(&mut self, id: InstanceId, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(instance) = self.instances.get_mut(&id) else { return actions };
        if !matches!(instance.phase, Phase::Starting { .. }) {
            return actions;
        }
        instance.phase = Phase::Ready;
        instance.since = now;
        let (place, addresses) = (instance.place, instance.listening.clone());
        if let Some(slot) = self.slots.get_mut(&place) {
            slot.waits_for = None;
            slot.unexplained = 0;
        }
        actions.extend(self.report_change(id, None));
        actions.push(Action::UpdateSteering);
        self.instance_ready(place, id, addresses, now, &mut actions);
        actions
    }

    /// The readiness check of a starting instance has this result, and goes on.
    pub fn not_ready_yet(&mut self, id: InstanceId, result: String) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.check_result = Some(result);
        }
    }

    /// A draining instance has finished.
    pub fn drained(&mut self, id: InstanceId, now: Duration) -> Vec<Action> {
        let grace = self.settings.grace;
        match self.instances.get_mut(&id) {
            Some(instance) if instance.phase == Phase::Draining => {
                instance.phase = Phase::Terminating { deadline: now + grace };
                vec![Action::Terminate(id)]
            }
            _ => Vec::new(),
        }
    }

    /// The children of an instance whose first process has ended have no connections any more.
    pub fn children_finished(&mut self, id: InstanceId, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if matches!(self.phase(id), Some(Phase::Outlived { .. })) {
            self.end_children(id, now, &mut actions);
        }
        actions
    }

    fn end_children(&mut self, id: InstanceId, now: Duration, actions: &mut Vec<Action>) {
        let grace = self.settings.grace.min(CHILDREN_GRACE);
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.phase = Phase::Terminating { deadline: now + grace };
            actions.push(Action::Terminate(id));
        }
    }

    /// The first process ended, and no process of the instance is left.
    pub fn exited(&mut self, id: InstanceId, exit: Exit, now: Duration) -> Vec<Action> {
        let first_exit = self.instances.get(&id).and_then(|instance| instance.first_exit);
        let exit = first_exit.unwrap_or(exit);
        self.instance_ended(id, ChangeReason::Ended(exit), exit, now)
    }

    /// The first process ended, and its children have connections. They get the rest of the grace
    /// period; [`Self::exited`] reports their end.
    pub fn outlived(&mut self, id: InstanceId, exit: Exit, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let grace = self.settings.grace;
        let Some(instance) = self.instances.get_mut(&id) else { return actions };
        let before = instance.clone();
        let deadline = match instance.phase {
            Phase::Terminating { deadline } | Phase::Outlived { deadline } => deadline,
            _ => now + grace,
        };
        if !before.phase.is_leaving() {
            instance.since = now;
        }
        instance.phase = match instance.phase {
            Phase::Killed => Phase::Killed,
            _ => Phase::Outlived { deadline },
        };
        instance.first_exit = Some(exit);
        let reason = ChangeReason::ChildrenRemain(exit);
        actions.extend(self.report_change(id, Some(reason.clone())));
        actions.push(Action::UpdateSteering);
        self.leave_slot(id, &before, reason, exit, now, &mut actions);
        self.advance(now, &mut actions);
        actions
    }

    fn instance_ended(
        &mut self,
        id: InstanceId,
        reason: ChangeReason,
        exit: Exit,
        now: Duration,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(instance) = self.instances.remove(&id) else { return actions };
        let change = instance.place.change(Some(id), WorkerState::Gone, Some(reason.clone()));
        actions.extend([Action::Report(change), Action::UpdateSteering]);
        self.leave_slot(id, &instance, reason, exit, now, &mut actions);
        self.advance(now, &mut actions);
        actions
    }

    /// Takes an instance whose first process ended out of its worker's slot. `instance`: its state
    /// before.
    fn leave_slot(
        &mut self,
        id: InstanceId,
        instance: &Instance,
        reason: ChangeReason,
        exit: Exit,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let place = instance.place;
        match self.slots.get_mut(&place) {
            Some(slot) if slot.serving == Some(id) && !instance.phase.is_leaving() => {
                slot.serving = None;
                if resets(now.saturating_sub(instance.since), slot.crashes) {
                    slot.crashes = 0;
                }
                if slot.replacement.is_none() {
                    self.count_crash(place, reason, exit, true, now, actions);
                }
            }
            Some(slot) if slot.replacement == Some(id) => {
                slot.replacement = None;
                let serves = slot.serving.is_some();
                self.replacement_failed(place, instance.command, reason.clone(), now, actions);
                if !serves {
                    self.count_crash(place, reason, exit, false, now, actions);
                }
            }
            Some(slot) if slot.serving == Some(id) => slot.serving = None,
            _ => {}
        }
    }
}
