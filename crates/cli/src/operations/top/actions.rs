//! What the keys of `top` do: the operations of the verbs, each in a thread.

use sameport_policy::model::name::RunName;
use sameport_supervisor::control::protocol::ControlRequest;

use crate::error::client_failure;
use crate::operations::named_runs::runs_of;

/// A change that a user asks for with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopAction {
    /// Replaces the workers of a run.
    Restart {
        run: String,
        /// Its user, if that is not the caller.
        user: Option<String>,
    },
}

impl TopAction {
    /// What it does, for a question and a message: `restart web`.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Restart { run, .. } => format!("restart {run}"),
        }
    }

    /// Does it, and returns what to show.
    pub(crate) fn carry_out(&self) -> String {
        let done = match self {
            Self::Restart { run, user } => restart(run, user.as_deref()),
        };
        done.map_or_else(
            |error| format!("{}: {error}", self.name()),
            |()| format!("{}: done", self.name()),
        )
    }
}

fn restart(run: &str, user: Option<&str>) -> Result<(), String> {
    let name: RunName = run.parse().map_err(|_| "no such run".to_owned())?;
    let runs = runs_of(user).map_err(|_| "only root restarts it".to_owned())?;
    let request = ControlRequest::Restart { surge: None, now: false };
    let changed = runs.change(&name, request, &mut |_| {});
    changed.map_err(|error| client_failure(&name, &error).message)
}
