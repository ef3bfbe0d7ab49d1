//! How workers are, for those who ask.

use std::time::Duration;

use super::instance::Pause;
use super::{InstanceId, Lifecycle, WorkerState};

/// What can be said of one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerReport {
    /// The worker.
    pub ordinal: u16,
    /// Its process, if one runs.
    pub instance: Option<InstanceId>,
    /// What it is.
    pub state: WorkerState,
    /// Since when; of a worker that waits: until when.
    pub since: Duration,
    /// How often it was started again after a crash.
    pub restarts: u32,
}

impl Lifecycle {
    /// Everything that can be said, by worker.
    #[must_use]
    pub fn report(&self) -> Vec<WorkerReport> {
        let mut seen = Vec::new();
        for (start, process) in &self.instances {
            let restarts = self.slots.get(&process.ordinal).map_or(0, |seat| seat.restarts);
            let (ordinal, since, state) = (process.ordinal, process.since, process.phase.state());
            seen.push(WorkerReport { ordinal, instance: Some(*start), state, since, restarts });
        }
        for (ordinal, seat) in &self.slots {
            let (state, since) = match (seat.serving.or(seat.replacement), seat.pause) {
                (None, Some(Pause::Until(until))) => (WorkerState::Waiting, until),
                (None, Some(Pause::GivenUp(_))) => (WorkerState::GivenUp, Duration::ZERO),
                _ => continue,
            };
            let (ordinal, restarts) = (*ordinal, seat.restarts);
            seen.push(WorkerReport { ordinal, instance: None, state, since, restarts });
        }
        seen.sort_by_key(|seen| (seen.ordinal, seen.instance));
        seen
    }
}
