//! The state of one instance, and of one worker.

use std::collections::BTreeSet;
use std::time::Duration;

use super::exit::Exit;
use super::model::{ChangeReason, HeldPort, InstanceId, NotReady, WorkerChange, WorkerState};

/// The place of a worker, which one serving instance and its replacement have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) ordinal: u16,
    /// Whether it is the place of the canary beside the worker.
    pub(super) canary: bool,
}

impl Place {
    /// The place of a worker of the run's command.
    pub(super) fn main(ordinal: u16) -> Self {
        Self { ordinal, canary: false }
    }

    /// The place of the canary beside this worker.
    pub(super) fn canary(ordinal: u16) -> Self {
        Self { ordinal, canary: true }
    }

    /// A change of the worker here.
    pub(super) fn change(
        self,
        instance: Option<InstanceId>,
        state: WorkerState,
        reason: Option<ChangeReason>,
    ) -> WorkerChange {
        let Self { ordinal, canary } = self;
        WorkerChange { ordinal, canary, instance, state, reason }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) place: Place,
    pub(super) command: usize,
    pub(super) since: Duration,
    pub(super) phase: Phase,
    pub(super) listening: BTreeSet<String>,
    /// The addresses it must listen on before it is ready; empty: any.
    pub(super) required: BTreeSet<String>,
    pub(super) must_listen: bool,
    pub(super) silence_reported: bool,
    /// The last answer to the readiness check.
    pub(super) check_result: Option<String>,
    /// How the first process ended, if its children go on.
    pub(super) first_exit: Option<Exit>,
}

impl Instance {
    /// A worker's first instance may listen on nothing at all, so it has no deadline until it
    /// listens, unless it must.
    pub(super) fn has_ready_deadline(&self) -> bool {
        self.must_listen || !(self.required.is_empty() && self.listening.is_empty())
    }

    /// What a starting instance lacks.
    pub(super) fn lacks(&self) -> NotReady {
        NotReady {
            missing: self.required.difference(&self.listening).cloned().collect(),
            listening: self.listening.iter().cloned().collect(),
            check_result: self.check_result.clone(),
        }
    }

    /// Whether it listens on an address that its predecessor did not have: clients may be there.
    pub(super) fn has_other_addresses(&self) -> bool {
        !self.required.is_empty() && !self.listening.is_subset(&self.required)
    }

    /// Whether it listens on no address, and this was not reported.
    pub(super) fn is_silent(&self) -> bool {
        self.listening.is_empty() && !self.silence_reported
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting {
        /// Whether the readiness check runs.
        checking: bool,
    },
    Ready,
    /// Until its accept queue is empty, and it has finished its connections.
    Draining,
    /// After the stop signal.
    Terminating {
        deadline: Duration,
    },
    /// Its first process has ended, and its children have connections.
    Outlived {
        deadline: Duration,
    },
    Killed,
}

impl Phase {
    pub(super) fn state(self) -> WorkerState {
        match self {
            Self::Starting { .. } => WorkerState::Starting,
            Self::Ready => WorkerState::Ready,
            Self::Draining | Self::Terminating { .. } | Self::Outlived { .. } | Self::Killed => {
                WorkerState::Draining
            }
        }
    }

    pub(super) fn is_leaving(self) -> bool {
        self.state() == WorkerState::Draining
    }
}

/// A worker.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    pub(super) serving: Option<InstanceId>,
    pub(super) replacement: Option<InstanceId>,
    pub(super) command: usize,
    /// Consecutive crashes.
    pub(super) crashes: u32,
    pub(super) restarts: u32,
    /// The addresses of the last ready instance. A replacement must listen on all of them.
    pub(super) addresses: BTreeSet<String>,
    pub(super) pause: Option<Pause>,
    /// The time and the reason of the last end without a request.
    pub(super) last_end: Option<(Duration, ChangeReason)>,
    /// The last consecutive crashes that a held address may explain.
    pub(super) unexplained: u32,
    /// The address that its next ready instance needs, and that another program holds.
    pub(super) waits_for: Option<HeldPort>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    Until(Duration),
    GivenUp(Exit),
}

/// The time between the stop signal and SIGKILL for children that outlived their first process.
pub(super) const CHILDREN_GRACE: Duration = Duration::from_secs(5);
