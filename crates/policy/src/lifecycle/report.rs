//! The state of each worker, for status output.

use std::time::Duration;

use super::instance::Pause;
use super::model::{InstanceId, WorkerState};
use super::state::Lifecycle;

/// The state of one instance, or of a worker without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerReport {
    /// The worker.
    pub ordinal: u16,
    /// The instance, if one runs.
    pub instance: Option<InstanceId>,
    /// The state.
    pub state: WorkerState,
    /// The time of the last change; for a waiting worker, the time of the restart.
    pub since: Duration,
    /// The number of restarts after crashes.
    pub restarts: u32,
}

impl Lifecycle {
    /// All instances and all workers without one, ordered by worker.
    #[must_use]
    pub fn report(&self) -> Vec<WorkerReport> {
        let instances = self.instances.iter().map(|(id, instance)| WorkerReport {
            ordinal: instance.ordinal,
            instance: Some(*id),
            state: instance.phase.state(),
            since: instance.since,
            restarts: self.slots.get(&instance.ordinal).map_or(0, |slot| slot.restarts),
        });
        let empty_slots = self.slots.iter().filter_map(|(ordinal, slot)| {
            let (state, since) = match (slot.serving.or(slot.replacement), slot.pause?) {
                (Some(_), _) => return None,
                (None, Pause::Until(end)) => (WorkerState::Waiting, end),
                (None, Pause::GivenUp(_)) => (WorkerState::GivenUp, Duration::ZERO),
            };
            let (ordinal, restarts) = (*ordinal, slot.restarts);
            Some(WorkerReport { ordinal, instance: None, state, since, restarts })
        });
        let mut report: Vec<_> = instances.chain(empty_slots).collect();
        report.sort_by_key(|worker| (worker.ordinal, worker.instance));
        report
    }
}
