//! What the keys of `top` do: the operations of the verbs, each in a thread.

use sameport_policy::addr::{AddrSpec, Host, PortSpec};
use sameport_policy::model::name::RunName;
use sameport_policy::top::GroupKey;
use sameport_policy::traffic::{MemberSelector, MemberValue};
use sameport_supervisor::control::protocol::ControlRequest;

use crate::error::{Failure, client_failure};
use crate::operations::named_runs::runs_of;
use crate::operations::traffic::change::SteerChange;
use crate::operations::traffic::steer::{drain, steer};

/// A change that a user asks for with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopAction {
    /// Replaces the workers of a run.
    Restart {
        run: String,
        /// Its user, if that is not the caller.
        user: Option<String>,
    },
    /// Gives a member no new connections, or new ones again.
    Drain { group: GroupKey, member: MemberSelector, undo: bool },
    /// Changes the weights or ranks of members, so that this one has the next value.
    Step { group: GroupKey, member: MemberSelector, values: Vec<MemberValue> },
}

impl TopAction {
    /// The text of the action, for a question and a message: `drain web.2 on 8080/tcp`.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Restart { run, .. } => format!("restart {run}"),
            Self::Drain { group, member, undo: false } => {
                format!("drain {member} on {}", port(*group))
            }
            Self::Drain { group, member, undo: true } => {
                format!("undo the drain of {member} on {}", port(*group))
            }
            Self::Step { group, member, values } => {
                let own = values.iter().find(|it| it.selector == *member);
                let value = own.map(|it| it.value.to_string()).unwrap_or_default();
                format!("{member}={value} on {}", port(*group))
            }
        }
    }

    /// Does it, and returns what to show.
    pub(crate) fn carry_out(&self) -> String {
        let done = match self {
            Self::Restart { run, user } => restart(run, user.as_deref()),
            Self::Drain { group, member, undo } => {
                drain(&port(*group), member, *undo).map(drop).map_err(Failure::from)
            }
            Self::Step { group, values, .. } => {
                let change = SteerChange::Rules {
                    policy: None,
                    values: values.clone(),
                    connection_ids: false,
                };
                let done = steer(&port(*group), &change, false);
                match done.map(|status| status.map_or(Ok(()), |status| status.in_force)) {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(why)) => Err(Failure::failed(format!("not in force: {why}"))),
                    Err(error) => Err(Failure::from(error)),
                }
            }
        };
        let name = self.name();
        match done {
            Ok(()) => format!("{name}: done"),
            Err(failure) => format!("{name}: {}", failure.message),
        }
    }
}

fn port(group: GroupKey) -> PortSpec {
    let addr = AddrSpec { host: Host::Any, port: group.port };
    PortSpec { addr, device: None, protocol: Some(group.protocol) }
}

fn restart(run: &str, user: Option<&str>) -> Result<(), Failure> {
    let name: RunName = run.parse().map_err(|error| Failure::failed(format!("{error}")))?;
    let runs = runs_of(user)?;
    let request = ControlRequest::Restart { surge: None, now: false };
    let changed = runs.change(&name, request, &mut |_| {});
    changed.map_err(|error| client_failure(&name, &error))
}
