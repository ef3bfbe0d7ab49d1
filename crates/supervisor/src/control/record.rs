//! The file that describes a supervisor to clients after it was killed.

use std::ffi::OsString;

use sameport_sys::ProcessIdentity;
use serde::{Deserialize, Serialize};

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
}

impl RunRecord {
    /// The record of this supervisor, with these first processes of workers.
    pub fn new(about: &RunInfo, workers: &[i32]) -> Self {
        let identity = |pid: &i32| ProcessIdentity::of(u32::try_from(*pid).ok()?).ok();
        Self {
            pid: std::process::id().cast_signed(),
            info: about.clone(),
            workers: workers.iter().filter_map(identity).map(|it| it.to_string()).collect(),
        }
    }

    /// First processes that have not ended.
    pub fn running_workers(&self) -> Vec<i32> {
        let workers = self.workers.iter().filter_map(|text| text.parse::<ProcessIdentity>().ok());
        workers.filter(|it| !it.is_gone()).map(|it| it.pid().cast_signed()).collect()
    }
}
