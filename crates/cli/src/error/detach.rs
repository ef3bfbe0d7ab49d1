//! Advice for a run that was not started in the background.

use sameport_policy::model::name::RunName;

use super::client::client_failure;
use super::{ExitKind, Failure};
use crate::operations::detach::{DetachError, StartFailure};

impl From<&Failure> for StartFailure {
    fn from(failure: &Failure) -> Self {
        let Failure { kind, message, hint, .. } = failure.clone();
        Self { code: kind.code(), message, hint }
    }
}

impl From<StartFailure> for Failure {
    fn from(failure: StartFailure) -> Self {
        let StartFailure { code, message, hint } = failure;
        Self { kind: ExitKind::of_code(code), message, hint, also: Vec::new() }
    }
}

/// A run that was not started in the background.
pub(crate) fn detach_failure(name: &RunName, error: &DetachError) -> Failure {
    match error {
        DetachError::NoName => Failure::usage("a run in the background needs a name")
            .hint("add --name NAME: the verbs reach it by that"),
        DetachError::NotStarted(error) => {
            Failure::failed(format!("the supervisor of {name} cannot be started: {error}"))
        }
        DetachError::Refused(failure) => failure.clone().into(),
        DetachError::Ended(status) => Failure::failed(format!(
            "the supervisor of {name} ended before the run began: {status}"
        ))
        .hint("without --detach it says why"),
        DetachError::Client(error) => client_failure(name, error),
        DetachError::NotReady { why, goes_on: true } => {
            Failure::failed(format!("{why}; the workers that {name} took over serve on"))
                .hint(format!("`sameport status {name}` says which"))
        }
        DetachError::NotReady { why, goes_on: false } => {
            Failure::failed(format!("{why}; {name} was stopped"))
                .hint(format!(
                    "`sameport logs {name}` shows its output, `sameport status {name}` how its workers ended"
                ))
        }
    }
}
