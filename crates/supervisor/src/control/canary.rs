//! The canary of a run in the control protocol.

use std::ffi::OsString;

use sameport_policy::traffic::CanaryShare;
use serde::{Deserialize, Serialize};

/// The canary of a run, or its last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryStatus {
    /// Program and arguments of its workers.
    #[serde(with = "super::os_string_serde")]
    pub command: Vec<OsString>,
    /// Their working directory.
    pub directory: OsString,
    /// What becomes of it.
    pub state: CanaryState,
}

/// What becomes of a canary. Times are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CanaryState {
    /// Its workers start, or serve.
    Active {
        /// The share of new connections that it is to have.
        share: CanaryShare,
        /// The number of its workers.
        workers: u16,
        /// When it got its share; `None`: its workers start.
        since: Option<u64>,
        /// When it is promoted without a request.
        promotes_at: Option<u64>,
        /// The time from then to the promotion, while its workers start.
        promotes_after: Option<u64>,
    },
    /// It was rolled back, or could not start.
    RolledBack {
        /// When.
        at: u64,
        /// The worker whose failure was the reason, and the failure; `None`: on request.
        why: Option<String>,
    },
}
