//! The verbs that change a named run: each sends one request to its supervisor.

use sameport_policy::model::name::RunName;
use sameport_supervisor::control::client::{Client, ClientError};
use sameport_supervisor::control::protocol::{ControlRequest, WorkerUpdate};

use super::runtime_dir::runtime_dir;

/// Sends the request and returns when the change is complete. `on_update` receives each step.
pub(crate) fn change_run(
    name: &RunName,
    request: ControlRequest,
    on_update: &mut dyn FnMut(&WorkerUpdate),
) -> Result<(), ClientError> {
    Client::new(runtime_dir()).change(name, request, on_update)
}
