//! Advice for a run that was not started again after its supervisor was killed.

use sameport_policy::model::name::RunName;

use super::Failure;
use super::client::client_failure;
use super::detach::detach_failure;
use crate::operations::detach::DetachError;
use crate::operations::revive::{OutputPlace, ReviveError};
use crate::output::text::sentence_list;

/// Pids in one message.
const LISTED: usize = 16;

/// A run that was not started again.
pub(crate) fn revive_failure(name: &RunName, error: &ReviveError) -> Failure {
    let status = format!("`sameport status {name}` says what is left");
    match error {
        ReviveError::NotRecorded => {
            Failure::failed(format!("the record of {name} has no command line")).hint(status)
        }
        ReviveError::NotStarted(error) => {
            let Failure { message, hint, .. } = detach_failure(name, error);
            match error {
                DetachError::Refused(_) => Failure::failed(format!(
                    "the new supervisor of {name} does not start: {message}"
                ))
                .hint(format!("when that is repaired: sameport restart {name}")),
                _ => Failure::failed(message).hint(hint.unwrap_or(status)),
            }
        }
        ReviveError::Ended(exit, OutputPlace::OfWorkers) => {
            Failure::failed(format!("the new supervisor of {name} has ended: {exit}"))
                .hint(format!("its output says why, where its workers write; {status}"))
        }
        ReviveError::Ended(exit, OutputPlace::Background) => {
            Failure::failed(format!("the new supervisor of {name} has ended: {exit}")).hint(status)
        }
        ReviveError::NotReplaced(pids) => Failure::failed(format!(
            "the workers of {name} were not replaced, and serve on under the new supervisor: {}",
            sentence_list(pids.iter().map(|pid| format!("pid {pid}")), LISTED)
        ))
        .hint(status),
        ReviveError::Client(error) => client_failure(name, error),
    }
}
