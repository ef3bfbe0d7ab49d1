//! The file that describes a supervisor to clients after it was killed.

use std::ffi::OsString;
use std::path::Path;

use sameport_policy::membership::run_line;
use sameport_sys::ProcessIdentity;
use serde::{Deserialize, Serialize};

use super::continuation::{Continuation, RecordedWorker};
use super::counters::RunCounters;

/// A run, as its supervisor describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Program and arguments of the workers.
    #[serde(with = "super::os_string_serde")]
    pub command: Vec<OsString>,
    /// The working directory.
    pub directory: OsString,
    /// Start of the run, in milliseconds since 1970.
    pub since: u64,
    /// The cgroup of the service that the supervisor is, if a service manager started it. Earlier builds do
    /// not write it.
    #[serde(default)]
    pub service: Option<String>,
    /// Whether the supervisor was started in the background (`--detach`). Earlier builds do not write it.
    #[serde(default)]
    pub detached: bool,
}

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The pid of the supervisor.
    pub pid: i32,
    /// The run.
    #[serde(flatten)]
    pub info: RunInfo,
    /// Identities of the workers' first processes: the kernel reuses pids.
    workers: Vec<String>,
    /// The workers.
    #[serde(default)]
    pub history: RunHistory,
    /// How another supervisor continues the run. Earlier builds do not write it.
    #[serde(default)]
    pub continuation: Option<Continuation>,
}

/// What a run did, for a look at it after its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHistory {
    /// The file with the output of the workers.
    #[serde(default)]
    pub log: Option<OsString>,
    /// The workers.
    #[serde(default)]
    pub workers: Vec<EndedWorker>,
    /// What the run has counted. Earlier builds do not write it.
    #[serde(default)]
    pub counters: RunCounters,
}

/// A worker of a run that has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedWorker {
    /// The worker's ordinal, from 1.
    pub ordinal: u16,
    /// Number of restarts after a crash.
    #[serde(default)]
    pub restarts: u32,
    /// How it ended last; `None` if it has not ended.
    #[serde(default)]
    pub last_end: Option<String>,
    /// When it ended last, in milliseconds since 1970.
    #[serde(default)]
    pub last_end_at: Option<u64>,
    /// The addresses that it listened on when it was ready, each with its protocol: `tcp 0.0.0.0:80`.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The last lines that it wrote to the log file before it ended badly.
    #[serde(default)]
    pub output: Vec<String>,
}

/// The report about the end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedRun {
    /// The pid of the supervisor.
    pub pid: i32,
    /// The run.
    #[serde(flatten)]
    pub info: RunInfo,
    /// The end, in milliseconds since 1970.
    pub ended: u64,
    /// Why it ended.
    pub why: String,
    /// The exit code of the supervisor.
    pub exit_code: u8,
    /// The workers.
    #[serde(default)]
    pub history: RunHistory,
    /// The command line that starts the run again. Earlier builds do not write it.
    #[serde(default)]
    pub start_line: Option<StartLine>,
}

/// A command line of `sameport run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartLine {
    /// Program name and arguments.
    #[serde(with = "super::os_string_serde")]
    pub arguments: Vec<OsString>,
    /// The working directory of the supervisor.
    pub directory: OsString,
}

impl StartLine {
    /// The command line of a run with the present number, command and directory of its workers.
    /// `arguments` and `directory`: those that the supervisor was started with. `None`: this version
    /// does not read the command line.
    pub fn of(
        info: &RunInfo,
        arguments: &[OsString],
        directory: &OsString,
        copies: u16,
    ) -> Option<Self> {
        let workers = Some(Path::new(&info.directory)).filter(|_| info.directory != *directory);
        let arguments = run_line::rewritten(arguments, copies, workers, &info.command)?;
        let arguments = if info.detached { run_line::detached(&arguments) } else { arguments };
        Some(Self { arguments, directory: directory.clone() })
    }
}

impl RunRecord {
    /// The record of this supervisor, with these first processes of workers.
    pub fn new(about: &RunInfo, workers: &[i32], history: RunHistory) -> Self {
        let identity = |pid: &i32| ProcessIdentity::of(u32::try_from(*pid).ok()?).ok();
        Self {
            pid: std::process::id().cast_signed(),
            info: about.clone(),
            workers: workers.iter().filter_map(identity).map(|it| it.to_string()).collect(),
            history,
            continuation: None,
        }
    }

    /// The workers. Of a record of an earlier build only the first processes are known.
    pub fn workers(&self) -> Vec<RecordedWorker> {
        if let Some(continuation) = &self.continuation {
            return continuation.workers.clone();
        }
        let known = |(identity, number): (&String, u16)| RecordedWorker {
            ordinal: number,
            canary: false,
            start: number.into(),
            ready: true,
            processes: vec![identity.clone()],
            addresses: Vec::new(),
        };
        self.workers.iter().zip(1..).map(known).collect()
    }

    /// First processes that have not ended.
    pub fn running_workers(&self) -> Vec<i32> {
        let workers = self.workers.iter().filter_map(|text| text.parse::<ProcessIdentity>().ok());
        workers.filter(|it| !it.is_gone()).map(|it| it.pid().cast_signed()).collect()
    }
}
