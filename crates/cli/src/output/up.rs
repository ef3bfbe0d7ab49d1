//! What `up` and `down` say about services.

use sameport_policy::model::name::RunName;
use sameport_policy::services::ServiceSpec;
use sameport_policy::services::changes::ServiceChange;
use sameport_policy::services::line::OptionEffect;

use super::json::{line as json_line, object};
use crate::error::Failure;
use crate::operations::up::{ServiceResult, copies};

/// What steps do, or have done. The number of workers is there once, also if an upgrade and a change of the
/// number come together.
fn steps_text(changes: &[ServiceChange], spec: &ServiceSpec) -> String {
    let has_number = changes.iter().any(|it| matches!(it, ServiceChange::Scale(..)));
    let texts = changes.iter().map(|change| match change {
        ServiceChange::Upgrade(parts) if has_number => format!("upgrade ({})", list(parts)),
        change => step_text(change, spec),
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// `2 to 4 workers`: what a step does, or has done.
fn step_text(change: &ServiceChange, spec: &ServiceSpec) -> String {
    let workers = count(copies(spec));
    match change {
        ServiceChange::Start => format!("start, {workers}"),
        ServiceChange::TakeOver => {
            format!("start in the place of a killed supervisor, {workers} replaced")
        }
        ServiceChange::Reexec => "this version of the supervisor".to_owned(),
        ServiceChange::Upgrade(parts) => format!("upgrade ({}), {workers}", list(parts)),
        ServiceChange::Reconfigure { options, workers: OptionEffect::Supervisor } => {
            match options.is_empty() {
                true => "belongs to this file".to_owned(),
                false => format!("options ({})", list(options)),
            }
        }
        ServiceChange::Reconfigure { options, .. } => {
            let options = if options.is_empty() { "env".to_owned() } else { list(options) };
            format!("options ({options}), {workers} replaced")
        }
        ServiceChange::StartCanary => match &spec.canary {
            Some(canary) => format!("canary, {} of new connections", canary.share),
            None => "canary".to_owned(),
        },
        ServiceChange::Promote => "promotion of the canary".to_owned(),
        ServiceChange::RollBack => "end of the canary".to_owned(),
        ServiceChange::Scale(from, to) => format!("{from} to {}", count(*to)),
        ServiceChange::Steer => "policy".to_owned(),
        ServiceChange::Restart { why, .. } => format!("stop and start ({why}), {workers}"),
    }
}

/// `; nothing is lost` of a step that replaces workers.
fn loss_text(changes: &[ServiceChange], cut: &[String]) -> String {
    let replaces = |change: &ServiceChange| {
        !matches!(
            change,
            ServiceChange::Start
                | ServiceChange::Steer
                | ServiceChange::StartCanary
                | ServiceChange::Reexec
                | ServiceChange::Restart { .. }
        )
    };
    match cut {
        [] if changes.iter().any(replaces) => ", nothing lost".to_owned(),
        [] => String::new(),
        some => format!("; {}", some.join("; ")),
    }
}

/// The line of a service whose steps are not carried out.
pub(crate) fn planned_line(spec: &ServiceSpec, changes: &[ServiceChange]) -> String {
    let name = &spec.name;
    if changes.is_empty() {
        return format!("{name}: as written, {}", count(copies(spec)));
    }
    let refuses =
        |change: &ServiceChange| matches!(change, ServiceChange::Restart { is_served: true, .. });
    let loss = match changes.iter().any(refuses) {
        true => "; clients are refused meanwhile".to_owned(),
        false => loss_text(changes, &[]),
    };
    format!("{name}: {}{loss}", steps_text(changes, spec))
}

/// The line of a service whose steps are done.
pub(crate) fn done_line(spec: &ServiceSpec, result: &ServiceResult) -> String {
    let steps = steps_text(&result.done, spec);
    format!("{}: {steps}{}", spec.name, loss_text(&result.done, &result.cut))
}

/// One line of JSON about a service. `state`: `as-written`, `planned`, `done`, `failed`, `refused`, `not-in-file`,
/// `stopped`.
pub(crate) fn service_json(
    name: &RunName,
    state: &str,
    changes: &[ServiceChange],
    failure: Option<&Failure>,
) -> String {
    let changes: Vec<&str> = changes.iter().map(change_name).collect();
    json_line(&object! {
        service: name.as_str(),
        state: state,
        changes: changes,
        error: failure.map(|failure| &failure.message),
        hint: failure.and_then(|failure| failure.hint.as_ref()),
    })
}

fn change_name(change: &ServiceChange) -> &'static str {
    match change {
        ServiceChange::Start => "start",
        ServiceChange::TakeOver => "take-over",
        ServiceChange::Reexec => "reexec",
        ServiceChange::Upgrade(_) => "upgrade",
        ServiceChange::Reconfigure { .. } => "reconfigure",
        ServiceChange::StartCanary => "canary",
        ServiceChange::Promote => "promote",
        ServiceChange::RollBack => "roll-back",
        ServiceChange::Scale(..) => "scale",
        ServiceChange::Steer => "steer",
        ServiceChange::Restart { .. } => "restart",
    }
}

fn count(workers: u16) -> String {
    let noun = if workers == 1 { "worker" } else { "workers" };
    format!("{workers} {noun}")
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
