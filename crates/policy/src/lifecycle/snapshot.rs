//! The state of a run for another supervisor process, which continues the run.

use std::collections::BTreeSet;
use std::time::Duration;

use super::instance::{Instance, Phase, Slot};
use super::model::{InstanceId, LifecycleSettings};
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

impl Lifecycle {
    /// The state of the run; `None` during a request, a restart or the end of an instance.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let workers = self.slots.iter().map(|(ordinal, slot)| {
            let instance = slot.serving?;
            Some(ServingWorker {
                ordinal: *ordinal,
                instance,
                command: slot.command,
                since: self.instances.get(&instance)?.since,
                restarts: slot.restarts,
                addresses: slot.addresses.iter().cloned().collect(),
            })
        });
        let workers = workers.collect::<Option<_>>()?;
        let all_serve = self.instances.len() == self.slots.len();
        let (copies, last_instance) = (self.settings.copies, self.last_instance);
        (self.is_settled() && !self.stopping && all_serve).then_some(Snapshot {
            copies,
            last_instance,
            workers,
            self_draining: self.self_draining.clone(),
        })
    }

    /// Continues a run. Times are on the clock of the snapshot.
    #[must_use]
    pub fn restore(settings: LifecycleSettings, snapshot: Snapshot) -> Self {
        let Snapshot { copies, last_instance, workers, self_draining } = snapshot;
        let mut lifecycle = Self::new(LifecycleSettings { copies, ..settings });
        lifecycle.last_instance = last_instance;
        lifecycle.self_draining = self_draining;
        for ServingWorker { ordinal, instance: id, command, since, restarts, addresses } in workers
        {
            let addresses: BTreeSet<String> = addresses.into_iter().collect();
            let instance = Instance {
                ordinal,
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
            lifecycle.instances.insert(id, instance);
            let serving = Some(id);
            let slot = Slot { serving, command, restarts, addresses, ..Slot::default() };
            lifecycle.slots.insert(ordinal, slot);
        }
        lifecycle
    }
}
