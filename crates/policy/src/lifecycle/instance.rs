//! One process of a worker, and a worker's place.

use std::collections::BTreeSet;
use std::time::Duration;

use super::WorkerState;
use crate::lifecycle::exit::Exit;

/// The number of one start of a worker: the first process and its descendants. A run never uses a
/// number twice.
pub type InstanceId = u32;

#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) ordinal: u16,
    pub(super) command: usize,
    pub(super) since: Duration,
    pub(super) phase: Phase,
    /// Of the addresses of `wanted`, those that it listens on.
    pub(super) listening: BTreeSet<String>,
    /// What it has to listen on before it is ready; none: anything.
    pub(super) required: BTreeSet<String>,
    pub(super) silence_reported: bool,
}

impl Instance {
    /// Nothing is known of what a first process will listen on, if on anything; so there is no time
    /// by which it must have.
    pub(super) fn has_ready_deadline(&self) -> bool {
        !(self.required.is_empty() && self.listening.is_empty())
    }

    /// It listens on nothing, which has not been told.
    pub(super) fn is_silent(&self) -> bool {
        self.listening.is_empty() && !self.silence_reported
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting {
        checking: bool,
    },
    Ready,
    /// Its queue drains, until it is told to end.
    Draining,
    /// It was told to end, and has until then.
    Terminating {
        deadline: Duration,
    },
    Killed,
}

impl Phase {
    pub(super) fn state(self) -> WorkerState {
        match self {
            Self::Starting { .. } => WorkerState::Starting,
            Self::Ready => WorkerState::Ready,
            Self::Draining | Self::Terminating { .. } | Self::Killed => WorkerState::Draining,
        }
    }

    pub(super) fn is_leaving(self) -> bool {
        self.state() == WorkerState::Draining
    }
}

/// A worker, by its ordinal.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    pub(super) serving: Option<InstanceId>,
    pub(super) replacement: Option<InstanceId>,
    pub(super) command: usize,
    /// In a row.
    pub(super) crashes: u32,
    pub(super) restarts: u32,
    /// What its processes listened on when one was last ready.
    pub(super) addresses: BTreeSet<String>,
    pub(super) pause: Option<Pause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    Until(Duration),
    GivenUp(Exit),
}

/// The pause before the first attempt after a second crash in a row; each further one doubles it.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// How long to wait after this many crashes in a row.
pub(super) fn pause(crashes: u32) -> Duration {
    match crashes.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => (FIRST_PAUSE * 2u32.saturating_pow(doublings)).min(MAX_PAUSE),
    }
}
