//! What a supervisor writes down about itself, for those who ask after it when it was killed.

use std::ffi::OsString;

use sameport_sys::ProcessIdentity;
use serde::{Deserialize, Serialize};

/// What a supervisor is, from its start to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInfo {
    /// What its workers are started with.
    #[serde(with = "super::os_string_serde")]
    pub command: Vec<OsString>,
    pub directory: OsString,
    /// Since when it runs, milliseconds since 1970.
    pub since: u64,
}

/// The record, as it is in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    pub pid: i32,
    #[serde(flatten)]
    pub info: RunInfo,
    /// The first processes of its workers, by [`Identity`]: a pid may be another's by now.
    workers: Vec<String>,
}

impl RunRecord {
    /// Of this process and these children of it.
    pub fn new(about: &RunInfo, workers: &[i32]) -> Self {
        let identity = |pid: &i32| ProcessIdentity::of(u32::try_from(*pid).ok()?).ok();
        Self {
            pid: std::process::id().cast_signed(),
            info: about.clone(),
            workers: workers.iter().filter_map(identity).map(|it| it.to_string()).collect(),
        }
    }

    /// Workers that have not ended.
    pub fn running_workers(&self) -> Vec<i32> {
        let workers = self.workers.iter().filter_map(|text| text.parse::<ProcessIdentity>().ok());
        workers.filter(|it| !it.is_gone()).map(|it| it.pid().cast_signed()).collect()
    }
}
