//! The verbs that change a named run: they differ in the request that they send.

use std::process::ExitCode;

use sameport_policy::model::name::RunName;
use sameport_supervisor::control::client::Client;
use sameport_supervisor::control::protocol::ControlRequest;

use crate::error::{VerbResult, client_failure};
use crate::output::run::changes::RunChanges;

/// Sends the request to the supervisor and prints each step until the change is complete. `done` is
/// the last line.
pub(crate) fn change(
    name: &RunName,
    request: ControlRequest,
    json: bool,
    done: &str,
) -> VerbResult {
    let mut changes = RunChanges::new(json);
    let client = Client::new(std::env::var_os("XDG_RUNTIME_DIR"));
    match client.change(name, request, &mut |change| changes.report(change)) {
        Ok(()) => {
            changes.done(done);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(changes.failed(client_failure(name, &error))),
    }
}
