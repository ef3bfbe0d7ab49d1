//! A run's life, written down for somebody who goes on with it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::instance::{Instance, Phase, Slot};
use super::{InstanceId, Lifecycle, LifecycleSettings};

/// A run of which nothing is under way, for somebody who goes on with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// How many workers are wanted.
    pub copies: u16,
    /// The last start that was given.
    pub last_instance: InstanceId,
    /// Every worker; each of them serves.
    pub workers: Vec<ServingWorker>,
}

/// A worker that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingWorker {
    /// The worker.
    pub ordinal: u16,
    /// Its process.
    pub instance: InstanceId,
    /// Which of the run's commands it runs.
    pub command: usize,
    /// Since when.
    pub since: Duration,
    /// How often it was started again after a crash.
    pub restarts: u32,
    /// What its successor has to listen on.
    pub addresses: Vec<String>,
}

impl Lifecycle {
    /// What is needed to go on with it; `None` while anything is under way.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let is_quiet = self.is_settled() && !self.stopping;
        let all_serve = self.instances.len() == self.slots.len();
        let workers = self.slots.iter().map(|(ordinal, seat)| {
            let start = seat.serving?;
            let process = self.instances.get(&start)?;
            Some(ServingWorker {
                ordinal: *ordinal,
                instance: start,
                command: seat.command,
                since: process.since,
                restarts: seat.restarts,
                addresses: seat.addresses.iter().cloned().collect(),
            })
        });
        let workers = workers.collect::<Option<_>>()?;
        let (copies, last_start) = (self.settings.copies, self.last_instance);
        (is_quiet && all_serve).then_some(Snapshot { copies, last_instance: last_start, workers })
    }

    /// Goes on with a run, on the clock that it was on.
    #[must_use]
    pub fn restore(settings: LifecycleSettings, snapshot: Snapshot) -> Self {
        let Snapshot { copies, last_instance: last_start, workers } = snapshot;
        let mut life = Self::new(LifecycleSettings { copies, ..settings });
        life.last_instance = last_start;
        for ServingWorker { ordinal, instance: start, command, since, restarts, addresses } in
            workers
        {
            let addresses: BTreeSet<String> = addresses.into_iter().collect();
            let process = Instance {
                ordinal,
                command,
                since,
                phase: Phase::Ready,
                listening: addresses.clone(),
                required: BTreeSet::new(),
                silence_reported: false,
            };
            life.instances.insert(start, process);
            let serving = Some(start);
            let seat = Slot { serving, command, restarts, addresses, ..Slot::default() };
            life.slots.insert(ordinal, seat);
        }
        life
    }
}
