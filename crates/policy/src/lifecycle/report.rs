//! The state of each worker, for status output.

use std::collections::BTreeSet;
use std::time::Duration;

use super::instance::{Pause, Place, Slot};
use super::model::{ChangeReason, InstanceId, NotReady, WorkerState};
use super::state::Lifecycle;

/// The state of one instance, or of a worker without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerReport {
    /// The worker.
    pub ordinal: u16,
    /// Whether it is a canary.
    pub canary: bool,
    /// The instance, if one runs.
    pub instance: Option<InstanceId>,
    /// The state.
    pub state: WorkerState,
    /// The time of the last change.
    pub since: Duration,
    /// The number of restarts after crashes.
    pub restarts: u32,
    /// The reason of the state, if it is not ready.
    pub reason: Option<String>,
    /// The time of the next start of a waiting worker.
    pub next_start: Option<Duration>,
    /// The time and the reason of the worker's last end without a request.
    pub last_end: Option<(Duration, ChangeReason)>,
}

impl Lifecycle {
    /// The ordinal of each worker, its restarts after crashes, and the addresses that it listens on
    /// when it is ready.
    pub fn workers(&self) -> impl Iterator<Item = (u16, u32, &BTreeSet<String>)> {
        let slots = self.slots.iter().filter(|(place, _)| !place.canary);
        slots.map(|(place, slot)| (place.ordinal, slot.restarts, &slot.addresses))
    }

    /// The time of the next start of a waiting worker; `None` if it waits for an address.
    #[must_use]
    pub fn next_start(&self, ordinal: u16, canary: bool) -> Option<Duration> {
        let slot = self.slots.get(&Place { ordinal, canary })?;
        match slot.pause.filter(|_| slot.waits_for.is_none())? {
            Pause::Until(end) => Some(end),
            Pause::GivenUp(_) => None,
        }
    }

    /// All instances and all workers without one, ordered by worker.
    #[must_use]
    pub fn report(&self) -> Vec<WorkerReport> {
        let instances = self.instances.iter().map(|(id, instance)| {
            let slot = self.slots.get(&instance.place);
            let state = instance.phase.state();
            let is_starting = state == WorkerState::Starting;
            let lacks = Some(instance.lacks()).filter(NotReady::has_reason);
            let port = slot.and_then(waits_for);
            let silent = (instance.silence_reported && instance.listening.is_empty())
                .then(|| ChangeReason::Silent.to_string());
            let reason = port.or(lacks.map(|lacks| lacks.to_string())).or(silent);
            WorkerReport {
                ordinal: instance.place.ordinal,
                canary: instance.place.canary,
                instance: Some(*id),
                state,
                since: instance.since,
                restarts: slot.map_or(0, |slot| slot.restarts),
                reason: reason.filter(|_| is_starting),
                next_start: None,
                last_end: slot.and_then(|slot| slot.last_end.clone()),
            }
        });
        let empty_slots = self.slots.iter().filter_map(|(place, slot)| {
            let (state, next_start) = match (slot.serving.or(slot.replacement), slot.pause?) {
                (Some(_), _) => return None,
                (None, Pause::Until(end)) => (WorkerState::Waiting, Some(end)),
                (None, Pause::GivenUp(_)) => (WorkerState::GivenUp, None),
            };
            let last_reason = || slot.last_end.as_ref().map(|(_, reason)| reason.to_string());
            Some(WorkerReport {
                ordinal: place.ordinal,
                canary: place.canary,
                instance: None,
                state,
                since: slot.last_end.as_ref().map_or(Duration::ZERO, |(at, _)| *at),
                restarts: slot.restarts,
                reason: waits_for(slot).or_else(last_reason),
                next_start: next_start.filter(|_| slot.waits_for.is_none()),
                last_end: slot.last_end.clone(),
            })
        });
        let mut report: Vec<_> = instances.chain(empty_slots).collect();
        report.sort_by_key(|worker| (worker.ordinal, worker.canary, worker.instance));
        report
    }
}

fn waits_for(slot: &Slot) -> Option<String> {
    slot.waits_for.as_ref().map(|port| ChangeReason::PortHeld(port.clone()).to_string())
}
