//! A process that has a socket open.

use std::path::PathBuf;
use std::time::Duration;

/// A process that has a socket open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// The process id, in the pid namespace of the observer.
    pub pid: i32,
    /// `/proc/PID/comm`: the name in the kernel, at most 15 bytes.
    pub program: String,
    /// More about the process; `None` if it was not requested.
    pub details: Option<ProcessDetails>,
}

impl Process {
    /// A process without details.
    #[must_use]
    pub fn new(pid: i32, program: impl Into<String>) -> Self {
        Self { pid, program: program.into(), details: None }
    }
}

/// Details of a process. `None` and empty mean unknown: the observer may lack the privilege.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessDetails {
    /// The effective user.
    pub uid: Option<u32>,
    /// The parent process.
    pub parent: Option<i32>,
    /// Program and arguments. The process can overwrite them.
    pub command: Vec<String>,
    /// The executed file: for a script, the interpreter.
    pub executable: Option<PathBuf>,
    /// The current working directory: that of the kernel, not the one at the start.
    pub directory: Option<PathBuf>,
    /// The path of the cgroup (version 2), as in `/proc/PID/cgroup`.
    pub cgroup: Option<String>,
    /// The start time, since 1970.
    pub started: Option<Duration>,
}
