//! Advice for a run that was not started again after its supervisor was killed.

use sameport_policy::model::name::RunName;

use sameport_supervisor::control::client::DeadSupervisor;

use super::Failure;
use super::client::{client_failure, recorded_line};
use crate::operations::revive::{OutputPlace, ReviveError};
use crate::output::text::sentence_list;

/// Pids in one message.
const LISTED: usize = 16;

/// A run that was not started again.
pub(crate) fn revive_failure(
    name: &RunName,
    dead: &DeadSupervisor,
    error: &ReviveError,
) -> Failure {
    let status = format!("`sameport status {name}` says what is left");
    match error {
        ReviveError::NotRecorded => {
            Failure::failed(format!("the record of {name} has no command line")).hint(status)
        }
        ReviveError::NotStarted(error) => {
            Failure::failed(format!("the supervisor of {name} cannot be started: {error}"))
                .hint(status)
        }
        ReviveError::Ended(exit, OutputPlace::OfWorkers) => {
            Failure::failed(format!("the new supervisor of {name} has ended: {exit}"))
                .hint(format!("its output says why, where its workers write; {status}"))
        }
        ReviveError::Ended(exit, OutputPlace::Nowhere) => {
            let line = dead.record.as_ref().map(|record| recorded_line(name, record));
            let line = line.unwrap_or_default();
            Failure::failed(format!("the new supervisor of {name} has ended: {exit}"))
                .hint(format!("in the foreground it says why: {line}"))
        }
        ReviveError::NotReplaced(pids) => Failure::failed(format!(
            "the workers of {name} were not replaced, and serve on under the new supervisor: {}",
            sentence_list(pids.iter().map(|pid| format!("pid {pid}")), LISTED)
        ))
        .hint(status),
        ReviveError::Client(error) => client_failure(name, error),
    }
}
