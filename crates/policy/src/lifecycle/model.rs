//! The input and output of the lifecycle.

use std::fmt;
use std::time::Duration;

use super::exit::Exit;
use crate::drain::DrainMode;
use crate::traffic::model::CanaryShare;

/// The number of one start of a worker: the first process and its descendants. A run never uses a
/// number twice.
pub type InstanceId = u32;

/// Settings of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleSettings {
    /// The number of workers.
    pub copies: u16,
    /// The number of workers replaced at a time, each before its predecessor ends; 0: one, after its
    /// predecessor has ended.
    pub surge: u16,
    /// The time limit for a new worker to become ready.
    pub ready_timeout: Duration,
    /// The time between the stop signal and SIGKILL.
    pub grace: Duration,
    /// The limit of restarts after consecutive crashes; `None`: no limit.
    pub max_restarts: Option<u32>,
    /// Whether a worker that listens on no address is not ready in time, even if it has no
    /// predecessor.
    pub must_listen: bool,
    /// What a worker finishes before it gets the stop signal.
    pub drain: DrainMode,
    /// The time limit of a drain.
    pub drain_timeout: Duration,
}

/// Something for the supervisor to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a worker. Its binds are answered with the sockets of its predecessor.
    Start {
        /// The number of this start.
        instance: InstanceId,
        /// The worker.
        ordinal: u16,
        /// The index of the run's command.
        command: usize,
        /// The instance that serves until this one is ready.
        predecessor: Option<InstanceId>,
    },
    /// Run the readiness check: the instance listens on all required addresses.
    CheckReady(InstanceId),
    /// Steer new connections to the instances of [`serving`](super::Lifecycle::serving), which
    /// changed.
    UpdateSteering,
    /// Steer new connections to no instance.
    StopAccepting,
    /// Let new clients wait on the addresses that only instances like this one have: it was not ready,
    /// or its request failed, and it ends.
    Withdraw(InstanceId),
    /// Steer no new connections to the instance, and report when its accept queue is empty and it has
    /// finished what the mode says.
    Drain(InstanceId, DrainMode),
    /// Send the stop signal to the first process, or to its children if it has ended.
    Terminate(InstanceId),
    /// Send SIGKILL to all processes of the instance.
    Kill(InstanceId),
    /// Report a change to the user.
    Report(WorkerChange),
    /// Report the end of the canary to the user.
    CanaryEnded(CanaryEnd),
    /// Report the end of a request.
    RequestDone(Result<(), RequestFailure>),
    /// End the run.
    EndRun(RunOutcome),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// On request.
    Stopped,
    /// All workers crashed too often; the last one like this.
    GivenUp(Exit),
}

/// The state of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// It runs and is not ready.
    Starting,
    /// It serves.
    Ready,
    /// It receives no new connections and will end.
    Draining,
    /// It has ended.
    Gone,
    /// It crashed and will restart after a pause.
    Waiting,
    /// It crashed too often and will not restart.
    GivenUp,
}

/// The reason of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeReason {
    /// The first process ended.
    Ended(Exit),
    /// The worker could not be started, for this reason.
    NotStarted(String),
    /// The worker was not ready in time.
    NotReady(NotReady),
    /// The worker did not exit within the grace period and was killed.
    Killed,
    /// The worker listens on no address yet.
    Silent,
    /// The first process ended, and its children go on with their connections.
    ChildrenRemain(Exit),
    /// Another program holds an address of the worker. The next start waits for it.
    PortHeld(HeldPort),
}

impl fmt::Display for ChangeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(exit) => exit.fmt(f),
            Self::NotStarted(error) => write!(f, "cannot be started: {error}"),
            Self::NotReady(lacks) => write!(f, "not ready in time: {lacks}"),
            Self::Killed => f.write_str("did not exit in time and is killed"),
            Self::PortHeld(port) => write!(f, "waits for {port}"),
            Self::Silent => f.write_str("listens on no address yet"),
            Self::ChildrenRemain(exit) => write!(f, "{exit}; its children finish"),
        }
    }
}

/// What a worker lacks to be ready.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotReady {
    /// The required addresses that it does not listen on.
    pub missing: Vec<String>,
    /// The addresses that it listens on.
    pub listening: Vec<String>,
    /// The last answer to the readiness check, such as `400 from 127.0.0.1:8130`.
    pub check_result: Option<String>,
}

impl NotReady {
    /// Whether a reason is known.
    #[must_use]
    pub fn has_reason(&self) -> bool {
        !self.missing.is_empty() || self.check_result.is_some()
    }
}

/// `0.0.0.0:9101 is missing; the worker listens on 0.0.0.0:9199`.
impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.missing[..], &self.check_result) {
            ([], Some(result)) => f.write_str(result),
            ([], None) if self.listening.is_empty() => {
                f.write_str("the worker listens on no address")
            }
            ([], None) => f.write_str("the readiness check has no result"),
            (missing, _) => {
                let are = if missing.len() == 1 { "is" } else { "are" };
                let listening = match &self.listening[..] {
                    [] => "no address".to_owned(),
                    some => address_list(some),
                };
                write!(
                    f,
                    "{} {are} missing; the worker listens on {listening}",
                    address_list(missing)
                )
            }
        }
    }
}

/// Addresses without the protocol where it is TCP, at most four.
fn address_list(keys: &[String]) -> String {
    const LISTED: usize = 4;
    let name = |key: &String| key.strip_prefix("tcp ").unwrap_or(key).to_owned();
    let mut list = keys.iter().take(LISTED).map(name).collect::<Vec<_>>().join(", ");
    if keys.len() > LISTED {
        list.push_str(&format!(" and {} more", keys.len() - LISTED));
    }
    list
}

/// An address that another program holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPort {
    /// The address.
    pub address: String,
    /// The other program: `nginx (pid 4121, user root)`.
    pub holder: String,
}

/// `127.0.0.1:80, held by nginx (pid 4121, user root)`.
impl fmt::Display for HeldPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, held by {}", self.address, self.holder)
    }
}

/// A change of a worker's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerChange {
    /// The worker.
    pub ordinal: u16,
    /// Whether it is a canary.
    pub canary: bool,
    /// The instance; `None` if the worker waits or is given up.
    pub instance: Option<InstanceId>,
    /// The new state.
    pub state: WorkerState,
    /// The reason.
    pub reason: Option<ChangeReason>,
}

/// A request of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunRequest {
    /// Replace every worker.
    Restart {
        /// The number of workers replaced at a time; `None`: as in the settings.
        surge: Option<u16>,
        /// Whether the old workers get the stop signal as soon as their queues are empty.
        now: bool,
    },
    /// Replace all workers by workers of another command, or none.
    Upgrade {
        /// The index of the run's command.
        command: usize,
    },
    /// The same, and the new workers need not listen on the addresses of the old ones.
    Move {
        /// The index of the run's command.
        command: usize,
    },
    /// Start workers of another command beside those of the run, with a share of new connections.
    Canary {
        /// The index of the run's command.
        command: usize,
        /// Its share.
        share: CanaryShare,
        /// The time after which it is promoted without a request; `None`: never.
        promotes_after: Option<Duration>,
    },
    /// Replace all workers by workers of the canary's command. The workers of the canary stay.
    Promote,
    /// End the workers of the canary.
    RollBack,
    /// Change the number of workers.
    Scale {
        /// 1 or more.
        copies: u16,
    },
    /// Serve on for this time, and then end all workers. Load balancers hear of it meanwhile.
    Leave {
        /// The time.
        after: Duration,
    },
    /// End all workers.
    Stop {
        /// Whether they get the stop signal at once.
        now: bool,
    },
}

/// The kind of a request in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Workers are replaced.
    Restart,
    /// Workers are replaced by those of another command.
    Upgrade,
    /// Workers are started or ended.
    Scale,
    /// The workers of a canary are started.
    Canary,
    /// All workers are replaced by those of the canary's command.
    Promotion,
}

/// The request in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusyRequest {
    /// Its kind.
    pub kind: RequestKind,
    /// When it began.
    pub since: Duration,
    /// The worker that it waits for.
    pub waits_for: Option<WaitsFor>,
}

/// A worker that a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitsFor {
    /// The worker.
    pub ordinal: u16,
    /// The instance; `None` if the worker waits for its next start.
    pub instance: Option<InstanceId>,
    /// Its state.
    pub state: WorkerState,
    /// When the wait ends at the latest; `None`: without a limit.
    pub until: Option<Duration>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestRefusal {
    /// Another request is in progress.
    Busy(BusyRequest),
    /// The run is ending.
    Stopping,
    /// The run is announced as leaving.
    Leaving,
    /// The run has a canary, which is to be promoted or rolled back first.
    Canary,
    /// The run has no canary.
    NoCanary,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestFailure {
    /// The new instance of this worker was not ready; the old one keeps serving.
    NotReady(u16, ChangeReason),
    /// A stop request came in between.
    Stopping,
    /// The canary was rolled back on request.
    RolledBack,
    /// The canary was rolled back, because this worker of it failed.
    Canary(u16, ChangeReason),
}

/// The canary of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// The index of the run's command.
    pub command: usize,
    /// Its share of the new connections.
    pub share: CanaryShare,
    /// When it got its share; `None` while its workers start.
    pub since: Option<Duration>,
    /// The time after which it is promoted, from the moment that it gets its share; `None`: on request.
    pub promotes_after: Option<Duration>,
}

impl Canary {
    /// When it is promoted without a request.
    #[must_use]
    pub fn promotes_at(&self) -> Option<Duration> {
        Some(self.since? + self.promotes_after?)
    }
}

/// How a canary ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryEnd {
    /// When.
    pub at: Duration,
    /// The index of its command.
    pub command: usize,
    /// The outcome.
    pub outcome: CanaryOutcome,
}

/// The outcome of a canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CanaryOutcome {
    /// Its command is that of the run.
    Promoted {
        /// Whether its time was over, without a request.
        by_itself: bool,
    },
    /// A request rolled it back.
    RolledBack,
    /// The failure of this worker rolled it back.
    Failed(u16, ChangeReason),
}

/// The number of canary workers beside this number of workers: as near to the share as possible, and at
/// least one.
#[must_use]
pub fn canary_workers(copies: u16, share: CanaryShare) -> u16 {
    let workers = (u32::from(copies) * u32::from(share.per_10000) + 5_000) / 10_000;
    u16::try_from(workers).unwrap_or(copies).clamp(1, copies.max(1))
}
