//! Other options for a run: the request, and what a run was started with.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use super::ports::PortRules;

/// Other options for a run, which none of its connections notices.
///
/// The supervisor checks the arguments first: with some that cannot start it refuses, and the run stays as
/// it is. If the new workers do not become ready, it goes back to the arguments of before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconfigure {
    /// The command line of the supervisor, program name first.
    #[serde(with = "super::os_string_serde")]
    pub arguments: Vec<OsString>,
    /// The working directory of the supervisor, absolute; `None`: it stays.
    pub directory: Option<OsString>,
    /// Variables of the environment of the supervisor that change, and their new values; `None`: unset.
    pub environment: Vec<(OsString, Option<OsString>)>,
    /// What becomes of the workers.
    pub workers: WorkerChoice,
}

/// What becomes of the workers of a run that gets other options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerChoice {
    /// They stay: the options are the supervisor's own.
    Keep,
    /// They are replaced, by workers that listen on the same addresses.
    #[default]
    Replace,
    /// They are replaced, by workers that may listen elsewhere.
    Move,
}

/// What a run was started with, and what holds now in place of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStart {
    /// The command line of the supervisor, program name first.
    #[serde(with = "super::os_string_serde")]
    pub arguments: Vec<OsString>,
    /// The working directory of the supervisor.
    pub directory: OsString,
    /// The variables that are set for the workers, after the upgrades.
    pub environment: Vec<(OsString, OsString)>,
    /// The policies of single ports, which requests have set.
    pub steered: Vec<PortRules>,
    /// The cgroup of the service that the supervisor is, if a service manager started it.
    pub service: Option<String>,
    /// Why the last change of the options was undone.
    pub undone: Option<String>,
}
