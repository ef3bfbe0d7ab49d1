//! The words between a run's life and those who see to it.

use std::fmt;
use std::time::Duration;

use super::InstanceId;
use crate::lifecycle::exit::Exit;

/// What the user chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleSettings {
    /// How many workers.
    pub copies: u16,
    /// How many are replaced at once, before the old ones end; 0: one, after the old one has ended.
    pub surge: u16,
    /// How long one may take to get ready.
    pub ready_timeout: Duration,
    /// How long one may take to end after SIGTERM.
    pub grace: Duration,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start this worker's command; what its predecessor listens on is its to listen on.
    Start {
        /// Which start this is.
        instance: InstanceId,
        /// The worker.
        ordinal: u16,
        /// Which of the run's commands.
        command: usize,
        /// The process that serves meanwhile.
        predecessor: Option<InstanceId>,
    },
    /// It listens on all that it should: ask it whether it is ready.
    CheckReady(InstanceId),
    /// Those that may get new connections have changed: see [`super::Life::live`].
    UpdateSteering,
    /// Nobody is to get new connections any more.
    StopAccepting,
    /// It gets no new connections any more: say when its queue is empty.
    Drain(InstanceId),
    /// SIGTERM to its first process.
    Terminate(InstanceId),
    /// SIGKILL to all its processes.
    Kill(InstanceId),
    /// Something to tell.
    Report(WorkerChange),
    /// What was asked for is done, or is not, and why.
    RequestDone(Result<(), RequestFailure>),
    /// Nothing is left to be done.
    EndRun(RunOutcome),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// As it was asked to.
    Stopped,
    /// Every worker was given up; the last one ended so.
    GivenUp(Exit),
}

/// Where in its life a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// It runs and is not ready.
    Starting,
    /// It serves.
    Ready,
    /// It gets no new connections, and is to end.
    Draining,
    /// It has ended.
    Gone,
    /// It crashed, and is started again after a pause.
    Waiting,
    /// It crashed too often and is not started again.
    GivenUp,
}

/// Why something is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeReason {
    /// Its first process ended so.
    Ended(Exit),
    /// It could not be started.
    NotStarted,
    /// It did not get ready in time, and listened on this many addresses of this many.
    NotReady {
        /// How many of them it listened on.
        listening: usize,
        /// How many the one before it listened on; 0: nothing is known.
        expected: usize,
    },
    /// It did not end within the grace period and was killed.
    Killed,
    /// It has listened on nothing so far.
    Silent,
}

impl fmt::Display for ChangeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(Exit::Code(code)) => write!(f, "it ended with code {code}"),
            Self::Ended(Exit::Signal(signal)) => write!(f, "it ended by signal {signal}"),
            Self::NotStarted => f.write_str("it could not be started"),
            Self::NotReady { expected: 0, .. } => {
                f.write_str("it listens, and was not ready in time")
            }
            Self::NotReady { listening: listens, expected: wanted } if listens == wanted => {
                f.write_str("it listens, and was not ready in time")
            }
            Self::NotReady { listening: listens, expected: wanted } => {
                write!(f, "it listened on {listens} of {wanted} addresses in time")
            }
            Self::Killed => f.write_str("it did not end in time, and is killed"),
            Self::Silent => f.write_str("it has listened on nothing so far"),
        }
    }
}

/// A worker changed its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerChange {
    /// The worker.
    pub ordinal: u16,
    /// Its process; `None` where the worker waits or is given up.
    pub instance: Option<InstanceId>,
    /// What it is now.
    pub state: WorkerState,
    /// Why.
    pub reason: Option<ChangeReason>,
}

/// Why a request was not carried out to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFailure {
    /// This worker's new process did not get ready; the old one serves on.
    NotReady(u16, ChangeReason),
    /// The run was told to stop meanwhile.
    Stopping,
}
