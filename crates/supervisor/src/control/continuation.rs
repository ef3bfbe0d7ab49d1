//! The part of the record with which another supervisor continues a run whose supervisor was killed.

use std::ffi::OsString;

use sameport_policy::lifecycle::InstanceId;
use sameport_sys::ProcessIdentity;
use serde::{Deserialize, Serialize};

use super::protocol::PortRules;
use crate::output::RecordedOutput;

/// A run at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continuation {
    /// The command line of the supervisor, program name first.
    #[serde(with = "super::os_string_serde")]
    pub arguments: Vec<OsString>,
    /// The working directory of the supervisor.
    pub directory: OsString,
    /// Number of workers.
    pub copies: u16,
    /// The workers that have not ended.
    pub workers: Vec<RecordedWorker>,
    /// Inodes of the held sockets.
    pub sockets: Vec<u64>,
    /// Inodes of the members of each TCP group, in the kernel's order.
    pub groups: Vec<Vec<u64>>,
    /// The policies of single ports. Earlier builds do not write it.
    #[serde(default)]
    pub traffic: Vec<PortRules>,
    /// The pipes of the workers' output. Earlier builds do not write it.
    #[serde(default)]
    pub output: RecordedOutput,
}

/// A worker at that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedWorker {
    /// The worker.
    pub ordinal: u16,
    /// Whether it is the canary beside that worker.
    #[serde(default)]
    pub canary: bool,
    /// The number of its start.
    pub start: InstanceId,
    /// Whether it served.
    pub ready: bool,
    /// The identity of its first process, or those of its daemons.
    pub processes: Vec<String>,
    /// The addresses that it listened on.
    pub addresses: Vec<String>,
}

impl RecordedWorker {
    /// Its processes.
    pub fn identities(&self) -> impl Iterator<Item = ProcessIdentity> {
        self.processes.iter().filter_map(|text| text.parse().ok())
    }
}
