//! The state of a run for another supervisor process, which continues the run.

use std::collections::BTreeSet;
use std::time::Duration;

use super::instance::{Instance, Phase, Place, Slot};
use super::model::{Canary, InstanceId, LifecycleSettings};
use super::state::Lifecycle;

/// The state of a run in which every worker serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The number of workers.
    pub copies: u16,
    /// The last instance number that was used.
    pub last_instance: InstanceId,
    /// The workers.
    pub workers: Vec<ServingWorker>,
    /// The canary.
    pub canary: Option<CanarySnapshot>,
    /// The indices of the commands whose workers finish their connections after the stop signal.
    pub self_draining: BTreeSet<usize>,
}

/// A worker that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingWorker {
    /// The worker.
    pub ordinal: u16,
    /// The serving instance.
    pub instance: InstanceId,
    /// The index of the run's command.
    pub command: usize,
    /// The time since which the instance is ready.
    pub since: Duration,
    /// The number of restarts after crashes.
    pub restarts: u32,
    /// The addresses that a replacement must listen on.
    pub addresses: Vec<String>,
}

/// The canary of a run, whose workers serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanarySnapshot {
    /// The canary.
    pub canary: Canary,
    /// Its workers.
    pub workers: Vec<ServingWorker>,
}

impl Lifecycle {
    /// The state of the run; `None` during a request, a restart or the end of an instance.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let all_serve = self.instances.len() == self.slots.len();
        if !self.is_settled() || self.stopping || self.stops_at.is_some() || !all_serve {
            return None;
        }
        let canary = match self.canary.clone() {
            Some(canary) => Some(CanarySnapshot { canary, workers: self.serving_workers(true)? }),
            None => None,
        };
        Some(Snapshot {
            copies: self.settings.copies,
            last_instance: self.last_instance,
            workers: self.serving_workers(false)?,
            canary,
            self_draining: self.self_draining.clone(),
        })
    }

    /// The workers of the canary or of the run; `None` if one of them does not serve.
    fn serving_workers(&self, canary: bool) -> Option<Vec<ServingWorker>> {
        let slots = self.slots.iter().filter(|(place, _)| place.canary == canary);
        let worker = |(place, slot): (&Place, &Slot)| {
            let instance = slot.serving?;
            Some(ServingWorker {
                ordinal: place.ordinal,
                instance,
                command: slot.command,
                since: self.instances.get(&instance)?.since,
                restarts: slot.restarts,
                addresses: slot.addresses.iter().cloned().collect(),
            })
        };
        slots.map(worker).collect()
    }

    /// Continues a run. Times are on the clock of the snapshot.
    #[must_use]
    pub fn restore(settings: LifecycleSettings, snapshot: Snapshot) -> Self {
        let Snapshot { copies, last_instance, workers, canary, self_draining } = snapshot;
        let mut lifecycle = Self::new(LifecycleSettings { copies, ..settings });
        lifecycle.last_instance = last_instance;
        lifecycle.self_draining = self_draining;
        for worker in workers {
            lifecycle.add_serving(Place::main(worker.ordinal), worker);
        }
        if let Some(CanarySnapshot { canary, workers }) = canary {
            lifecycle.canary = Some(canary);
            for worker in workers {
                lifecycle.add_serving(Place::canary(worker.ordinal), worker);
            }
        }
        lifecycle
    }

    fn add_serving(&mut self, place: Place, worker: ServingWorker) {
        let ServingWorker { ordinal: _, instance: id, command, since, restarts, addresses } =
            worker;
        let addresses: BTreeSet<String> = addresses.into_iter().collect();
        let instance = Instance {
            place,
            command,
            since,
            phase: Phase::Ready,
            listening: addresses.clone(),
            required: BTreeSet::new(),
            must_listen: false,
            silence_reported: false,
            check_result: None,
            first_exit: None,
        };
        self.instances.insert(id, instance);
        let serving = Some(id);
        self.slots.insert(place, Slot { serving, command, restarts, addresses, ..Slot::default() });
    }
}
