//! What a supervisor is asked over its control socket, and what it answers.
//!
//! One frame asks; frames answer until one says that it is over. A frame is a length (four bytes,
//! big-endian) and as many bytes of JSON.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

/// Both ends must speak the same.
pub const VERSION: u32 = 1;

/// A request with the version of its sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionedRequest {
    pub version: u32,
    pub request: ControlRequest,
}

/// What a supervisor is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlRequest {
    /// How things are.
    Status,
    /// Every worker is replaced, this many at once (0: the old one ends first); `None`: as `run` was
    /// told.
    Restart { surge: Option<u16> },
    /// This many workers from now on.
    Scale { copies: u16 },
    /// Workers drain and end, and the supervisor with them.
    Stop,
    /// Every worker is replaced by one of this command.
    Upgrade {
        #[serde(with = "super::os_string_serde")]
        command: Vec<OsString>,
    },
    /// The supervisor executes this program in its own place, and goes on.
    Reexec { program: Option<OsString> },
}

/// What a supervisor answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlReply {
    /// The supervisor has the request, and carries it out whether or not the caller stays.
    #[serde(rename = "heard")]
    Accepted,
    /// How things are, and all there is to say.
    Status(Box<RunStatus>),
    /// Something happened on the way.
    #[serde(rename = "change")]
    Update(WorkerUpdate),
    /// It is done.
    Done,
    /// It was not done, and why; the next step.
    Failed { fault: FaultKind, error: String, hint: Option<String> },
}

/// Whose fault it is that something was not done, as the exit code says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Nothing but what the message says.
    Other,
    /// There is no such command.
    NotFound,
    /// The command is there and cannot be executed.
    NotExecutable,
}

impl ControlReply {
    /// Whether no other follows.
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Accepted | Self::Update(_))
    }

    /// It was not done.
    pub fn failed(error: impl Into<String>, hint: Option<&str>) -> Self {
        Self::Failed { fault: FaultKind::Other, error: error.into(), hint: hint.map(str::to_owned) }
    }
}

/// What became of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerUpdate {
    /// Milliseconds since 1970.
    pub at: u64,
    pub worker: u16,
    /// Its first process; `None` if none runs.
    pub pid: Option<i32>,
    pub state: WorkerPhase,
    /// What there is to say about it: how it ended, what is waited for.
    pub why: Option<String>,
    /// How many connections it still has open, if that is known.
    pub connections: Option<u32>,
}

/// Where in its life a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerPhase {
    /// It runs and is not ready.
    Starting,
    /// It serves.
    Ready,
    /// It gets no new connections, and is to end.
    Draining,
    /// It has ended.
    Gone,
    /// It crashed, and is started again after a while.
    Waiting,
    /// It crashed too often, and is not started again.
    GivenUp,
}

/// How a named run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStatus {
    pub name: String,
    /// The supervisor.
    pub pid: i32,
    /// The supervisor's version of sameport.
    pub version: String,
    /// Since when it runs, milliseconds since 1970.
    pub since: u64,
    #[serde(with = "super::os_string_serde")]
    pub command: Vec<OsString>,
    pub directory: OsString,
    /// `seccomp`, `preload` or `cgroup`.
    pub via: String,
    /// How many workers are wanted.
    pub copies: u16,
    pub workers: Vec<WorkerStatus>,
    pub addresses: Vec<ListenStatus>,
    /// What is not as one may expect, and why.
    pub remarks: Vec<String>,
}

/// One worker's process. A worker that is being replaced has two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    pub ordinal: u16,
    pub pid: Option<i32>,
    pub state: WorkerPhase,
    /// Since when it is in this state, milliseconds since 1970.
    pub since: u64,
    /// How often it was started again after a crash.
    pub restarts: u32,
    pub why: Option<String>,
    /// Open connections of its process tree, if they could be counted.
    pub connections: Option<u32>,
    /// What it listens on.
    pub addresses: Vec<String>,
}

/// One address of a named run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenStatus {
    /// `tcp` or `udp`.
    pub protocol: String,
    pub address: String,
    /// Sockets on it that are the run's.
    pub members: u32,
    /// Connections waiting to be accepted, over all of them.
    pub queue: u32,
    /// How many may wait, over all of them.
    pub backlog: u32,
    /// Whether they outlive their workers; if not, why not.
    pub held: Result<(), String>,
    /// Whether workers that are dead, starting or draining get no new connections; if not, why not.
    pub steered: Result<(), String>,
}
