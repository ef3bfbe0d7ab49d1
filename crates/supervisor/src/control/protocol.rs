//! Requests and replies of the control socket.
//!
//! A client sends one request and reads replies up to [`ControlReply::is_last`]. Each message is a
//! frame: its length (four bytes, big-endian), then JSON.

use std::ffi::OsString;

use sameport_policy::traffic::{
    CanaryShare, MemberSelector, RefusalCause, TrafficRefusal, TrafficRules, TrafficStatus,
};
use serde::{Deserialize, Serialize};

use super::canary::CanaryStatus;
use super::counters::RunCounters;
pub use super::ports::{PortRules, TrafficPort};
pub use super::reconfigure::{Reconfigure, RunStart, WorkerChoice};

/// Version of the protocol. Both ends must have the same.
pub const VERSION: u32 = 1;

/// A request, with the protocol version of its client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionedRequest {
    /// The client's [`VERSION`].
    pub version: u32,
    /// The request.
    pub request: ControlRequest,
}

/// A request to a supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlRequest {
    /// The status of the run.
    Status,
    /// Replaces every worker.
    Restart {
        /// Workers to replace at once; 0 ends the old worker first; `None`: the `--surge` of the run.
        surge: Option<u16>,
        /// Whether the old workers get the stop signal without a drain. Earlier builds do not send it.
        #[serde(default)]
        now: bool,
    },
    /// Changes the number of workers.
    Scale {
        /// The number of workers.
        copies: u16,
    },
    /// Drains and ends the workers, then the supervisor.
    Stop,
    /// Announces the run as leaving, serves on for this time, and then does [`Self::Stop`]. The earlier of two
    /// announcements counts. A supervisor of an earlier build refuses it.
    StopAnnounced {
        /// The time, in milliseconds.
        announce: u64,
    },
    /// Ends the workers without a drain, then the supervisor; also while it stops already.
    StopNow,
    /// Replaces every worker by one with another command.
    Upgrade {
        /// Program and arguments.
        #[serde(with = "super::os_string_serde")]
        command: Vec<OsString>,
    },
    /// [`Self::Upgrade`] with other launch options. A supervisor of an earlier build refuses it.
    UpgradeWith {
        /// Program and arguments; none: the command stays.
        #[serde(with = "super::os_string_serde")]
        command: Vec<OsString>,
        /// The working directory, absolute; `None`: it stays.
        directory: Option<OsString>,
        /// Variables to set, beside those of before.
        environment: Vec<(OsString, OsString)>,
    },
    /// Starts workers of another command beside those of the run, with a share of new connections. A
    /// supervisor of an earlier build refuses it and the two that follow.
    Canary {
        /// The command.
        launch: UpgradedLaunch,
        /// The share.
        share: CanaryShare,
        /// The time after which the canary is promoted, in milliseconds; `None`: never.
        promotes_after: Option<u64>,
    },
    /// Replaces the other workers by those of the canary's command.
    Promote,
    /// Ends the workers of the canary.
    RollBack,
    /// Waits for the end of the change in progress, if there is one.
    Follow,
    /// Sets the policy of a port. A supervisor of an earlier build refuses it, as the next two.
    Steer {
        /// The port.
        port: TrafficPort,
        /// The rules; `None`: each worker that is ready gets the same, by the kernel's hash.
        rules: Option<TrafficRules>,
    },
    /// Gives workers no new connections on a port, or gives them new ones again.
    DrainWorker {
        /// The port.
        port: TrafficPort,
        /// The workers.
        member: MemberSelector,
        /// Whether they get new connections again.
        undo: bool,
    },
    /// The traffic of a port.
    Traffic {
        /// The port.
        port: TrafficPort,
    },
    /// Executes another program in the supervisor's process, which continues the run.
    Reexec {
        /// The program; `None`: the file that the supervisor was started from.
        program: Option<OsString>,
    },
    /// Executes the supervisor's program again in its process, with other arguments, and lets the options
    /// of these hold for the workers too. A supervisor of an earlier build refuses it.
    Reconfigure(Reconfigure),
}

/// What the new workers of an upgrade execute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradedLaunch {
    /// Program and arguments; none: the command stays.
    #[serde(with = "super::os_string_serde")]
    pub command: Vec<OsString>,
    /// The working directory, absolute; `None`: it stays.
    pub directory: Option<OsString>,
    /// Variables to set, beside those of before.
    pub environment: Vec<(OsString, OsString)>,
}

/// A reply of a supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlReply {
    /// The supervisor executes the request, even if the client leaves.
    #[serde(rename = "heard")]
    Accepted,
    /// The status. The last reply.
    Status(Box<RunStatus>),
    /// The traffic of a port. The last reply.
    Traffic(Box<TrafficStatus>),
    /// A worker changed its state.
    #[serde(rename = "change")]
    Update(WorkerUpdate),
    /// The request was executed. The last reply.
    Done,
    /// The request failed. The last reply.
    Failed {
        /// The kind, for the exit code.
        fault: FaultKind,
        /// The message.
        error: String,
        /// The next step.
        hint: Option<String>,
    },
}

/// The kind of a failure, for the client's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Any other.
    Other,
    /// The command was not found.
    NotFound,
    /// The command cannot be executed.
    NotExecutable,
    /// The request makes no sense for this run.
    Usage,
    /// This machine, or the user of the run, cannot do it.
    Unsupported,
    /// The run is not in a state for it: later.
    Busy,
}

impl ControlReply {
    /// Whether no other reply follows.
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Accepted | Self::Update(_))
    }

    /// Rules that cannot hold.
    pub fn refused(refusal: &TrafficRefusal) -> Self {
        let fault = match refusal.cause() {
            RefusalCause::Means => FaultKind::Unsupported,
            RefusalCause::Rules => FaultKind::Usage,
            RefusalCause::Members => FaultKind::Other,
        };
        Self::Failed { fault, error: refusal.to_string(), hint: refusal.next_step() }
    }

    /// A failure of kind [`FaultKind::Other`].
    pub fn failed(error: impl Into<String>, hint: Option<&str>) -> Self {
        Self::Failed { fault: FaultKind::Other, error: error.into(), hint: hint.map(str::to_owned) }
    }
}

/// A change of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerUpdate {
    /// Time of the change, in milliseconds since 1970.
    pub at: u64,
    /// The worker's ordinal, from 1.
    pub worker: u16,
    /// Whether it is the canary beside that worker.
    #[serde(default)]
    pub canary: bool,
    /// Its first process; `None` if none runs.
    pub pid: Option<i32>,
    /// The new state.
    pub state: WorkerPhase,
    /// The reason, such as how the process ended.
    pub why: Option<String>,
    /// Number of open connections, if known.
    pub connections: Option<u32>,
    /// Number of connections in hand, if the worker is to finish them.
    #[serde(default)]
    pub in_hand: Option<u32>,
    /// The next start of a waiting worker, in milliseconds since 1970.
    #[serde(default)]
    pub next_start: Option<u64>,
}

/// The state of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerPhase {
    /// Runs and is not ready.
    Starting,
    /// Serves.
    Ready,
    /// Gets no new connections and ends once it has served the others.
    Draining,
    /// Has ended.
    Gone,
    /// Crashed; starts again after a pause.
    Waiting,
    /// Crashed too often; does not start again.
    GivenUp,
}

/// The status of a named run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// Its name.
    pub name: String,
    /// The pid of the supervisor.
    pub pid: i32,
    /// The sameport version of the supervisor.
    pub version: String,
    /// Start of the run, in milliseconds since 1970.
    pub since: u64,
    /// Program and arguments of the workers.
    #[serde(with = "super::os_string_serde")]
    pub command: Vec<OsString>,
    /// The working directory.
    pub directory: OsString,
    /// The interposer: `seccomp`, `preload` or `cgroup`.
    pub via: String,
    /// Configured number of workers.
    pub copies: u16,
    /// The workers.
    pub workers: Vec<WorkerStatus>,
    /// The addresses that they listen on.
    pub addresses: Vec<ListenStatus>,
    /// Restrictions of this run, with their reasons.
    pub remarks: Vec<String>,
    /// The treatment of its workers. Its fields are fields of the status.
    #[serde(flatten)]
    pub treatment: WorkerTreatment,
}

/// How a run treats its workers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerTreatment {
    /// What a worker finishes before it gets the stop signal: `none`, `busy` or `all`. Earlier builds
    /// do not write it.
    #[serde(default)]
    pub drain: Option<String>,
    /// Whether workers of the command are known to finish their connections after the stop signal, so
    /// that a drain need not.
    #[serde(default)]
    pub drains_itself: bool,
    /// The file with the output of the workers.
    #[serde(default)]
    pub log: Option<OsString>,
    /// The cgroup of the service that the supervisor is, if a service manager started it. Earlier builds do not
    /// write it.
    #[serde(default)]
    pub service: Option<String>,
    /// The canary, or the last one unless it was promoted.
    #[serde(default)]
    pub canary: Option<CanaryStatus>,
    /// The traffic of its ports that have a policy. Earlier builds do not write it.
    #[serde(default)]
    pub traffic: Vec<TrafficStatus>,
    /// What the run has counted. Earlier builds do not write it.
    #[serde(default)]
    pub counters: RunCounters,
    /// What the supervisor was started with. Earlier builds do not write it.
    #[serde(default)]
    pub start: Option<RunStart>,
    /// Whether the run leaves. Earlier builds do not write it.
    #[serde(default)]
    pub leaving: Option<LeavingStatus>,
}

/// A run that is announced as leaving, or stops: load balancers send new connections elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavingStatus {
    /// When its workers begin to drain, in milliseconds since 1970; `None`: they have begun.
    #[serde(default)]
    pub stops_at: Option<u64>,
}

/// The process of a worker. A worker that is being replaced has two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// The worker's ordinal, from 1.
    pub ordinal: u16,
    /// Whether it is the canary beside that worker.
    #[serde(default)]
    pub canary: bool,
    /// Its first process; `None` if none runs.
    pub pid: Option<i32>,
    /// The state.
    pub state: WorkerPhase,
    /// Start of this state, in milliseconds since 1970.
    pub since: u64,
    /// Number of restarts after a crash.
    pub restarts: u32,
    /// The reason of the state.
    pub why: Option<String>,
    /// Open connections of its process tree, if known.
    pub connections: Option<u32>,
    /// The addresses that it listens on.
    pub addresses: Vec<String>,
    /// Its last end, and its next start.
    #[serde(default)]
    pub history: WorkerHistory,
}

/// The last end of a worker without a request, and its next start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerHistory {
    /// The next start of a waiting worker, in milliseconds since 1970.
    #[serde(default)]
    pub next_start: Option<u64>,
    /// How it ended last, such as `killed by SIGSEGV`.
    #[serde(default)]
    pub last_end: Option<String>,
    /// When it ended last, in milliseconds since 1970.
    #[serde(default)]
    pub last_end_at: Option<u64>,
    /// The last lines that it wrote to the log file before it ended badly.
    #[serde(default)]
    pub output: Vec<String>,
}

/// One address of a named run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenStatus {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// IP address and port.
    pub address: String,
    /// Number of sockets of the run.
    pub members: u32,
    /// Connections in their accept queues.
    pub queue: u32,
    /// Sum of their backlogs.
    pub backlog: u32,
    /// Whether they outlive their workers; the reason if not.
    pub held: Result<(), String>,
    /// Whether new connections go to ready workers only; the reason if not.
    pub steered: Result<(), String>,
}
