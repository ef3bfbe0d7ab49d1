//! Carries out one step from a run to the service that is written.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sameport_policy::services::changes::{
    LaunchPart, PresentRun, ServiceChange, canary_environment, canary_launch,
};
use sameport_policy::services::line::OptionEffect;
use sameport_policy::services::{ServiceSpec, SteeringPolicy};
use sameport_policy::traffic::TrafficRules;
use sameport_supervisor::control::client::{Client, ClientError};
use sameport_supervisor::control::protocol::{
    ControlRequest, Reconfigure, UpgradedLaunch, WorkerChoice, WorkerUpdate,
};

use super::look::ServiceRun;
use crate::operations::detach;
use crate::operations::detach::{DetachError, DetachProgress};

/// What the steps need beside the service.
#[derive(Debug, Clone)]
pub(crate) struct StepContext {
    pub(crate) client: Client,
    /// The file of services.
    pub(crate) origin: PathBuf,
    /// The longest wait for the workers of a start; `None`: no wait.
    pub(crate) wait: Option<Duration>,
}

/// Why a step failed.
#[derive(Debug)]
pub(crate) enum StepError {
    /// A run was not started.
    Start(DetachError),
    /// A run was not changed.
    Client(ClientError),
}

impl From<ClientError> for StepError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

/// What happens during a step.
#[derive(Debug)]
pub(crate) enum StepProgress<'a> {
    /// A worker changed its state.
    Worker(&'a WorkerUpdate),
    /// A line of a supervisor that starts, or of a worker that ended badly.
    Line(&'a str),
}

/// The command line of the supervisor of a service.
pub(crate) fn supervisor_line(spec: &ServiceSpec, origin: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["sameport".into(), "run".into()];
    words.extend(["--origin".into(), origin.into()]);
    words.extend(spec.run_arguments().into_iter().skip(1));
    words
}

/// Carries out a step.
///
/// # Errors
///
/// See [`StepError`]. The run is as before, except after a stop.
pub(crate) fn apply(
    context: &StepContext,
    spec: &ServiceSpec,
    seen: &ServiceRun,
    change: &ServiceChange,
    progress: &mut dyn FnMut(StepProgress<'_>),
) -> Result<(), StepError> {
    let client = &context.client;
    let mut change_by = |request| {
        let mut hear = |update: &WorkerUpdate| progress(StepProgress::Worker(update));
        client.change(&spec.name, request, &mut hear).map_err(StepError::Client)
    };
    match change {
        ServiceChange::Start | ServiceChange::TakeOver => start(context, spec, progress),
        ServiceChange::Reexec => {
            let program = env::current_exe().ok().map(Into::into);
            change_by(ControlRequest::Reexec { program })
        }
        ServiceChange::Upgrade(parts) => change_by(upgrade(spec, parts)),
        ServiceChange::Reconfigure { workers, .. } => {
            let request = reconfigure(context, spec, seen, *workers);
            let mut hear = |update: &WorkerUpdate| progress(StepProgress::Worker(update));
            Ok(client.reconfigure(&spec.name, request, &mut hear)?)
        }
        ServiceChange::StartCanary => match canary(spec) {
            Some(request) => change_by(request),
            None => Ok(()),
        },
        ServiceChange::Promote => change_by(ControlRequest::Promote),
        ServiceChange::RollBack => change_by(ControlRequest::RollBack),
        ServiceChange::Scale(_, copies) => change_by(ControlRequest::Scale { copies: *copies }),
        ServiceChange::Steer => {
            let rules = rules(spec);
            seen.ports.iter().try_for_each(|port| {
                change_by(ControlRequest::Steer { port: *port, rules: rules.clone() })
            })
        }
        ServiceChange::Restart { .. } => {
            change_by(ControlRequest::Stop)?;
            start(context, spec, progress)
        }
    }
}

fn start(
    context: &StepContext,
    spec: &ServiceSpec,
    progress: &mut dyn FnMut(StepProgress<'_>),
) -> Result<(), StepError> {
    let arguments = supervisor_line(spec, &context.origin);
    let mut environment: Vec<(OsString, OsString)> = env::vars_os().collect();
    for (name, value) in spec.process_environment() {
        environment.retain(|(it, _)| it != name);
        environment.push((name.into(), value.into()));
    }
    let directory = context.origin.parent().map(Path::to_owned);
    let mut hear = |step: DetachProgress<'_>| match step {
        DetachProgress::Worker(update) => progress(StepProgress::Worker(update)),
        DetachProgress::Line(line) | DetachProgress::Output(_, line) => {
            progress(StepProgress::Line(line));
        }
        DetachProgress::Begun(_) => {}
    };
    detach::start(arguments, directory, environment, context.wait, &mut hear)
        .map(drop)
        .map_err(StepError::Start)
}

fn upgrade(spec: &ServiceSpec, parts: &[LaunchPart]) -> ControlRequest {
    let has = |part| parts.contains(&part);
    ControlRequest::UpgradeWith {
        command: match has(LaunchPart::Command) {
            true => spec.command.iter().map(OsString::from).collect(),
            false => Vec::new(),
        },
        directory: has(LaunchPart::Directory).then(|| spec.directory.clone().into()),
        environment: match has(LaunchPart::Environment) {
            true => variables(&spec.environment),
            false => Vec::new(),
        },
    }
}

fn reconfigure(
    context: &StepContext,
    spec: &ServiceSpec,
    seen: &ServiceRun,
    workers: OptionEffect,
) -> Reconfigure {
    let before = match &seen.present {
        PresentRun::Running(facts) => &facts.environment[..],
        _ => &[],
    };
    let is_written = |name: &OsString| spec.environment.iter().any(|(it, _)| name == it.as_str());
    // A variable that is not written any more is what it is here.
    let gone = before.iter().filter(|(name, _)| !is_written(name));
    let gone = gone.map(|(name, _)| (name.clone(), env::var_os(name)));
    let written = spec.process_environment();
    let written = written.map(|(name, value)| (name.into(), Some(value.into())));
    Reconfigure {
        arguments: supervisor_line(spec, &context.origin),
        directory: context.origin.parent().map(|it| it.as_os_str().to_owned()),
        environment: gone.chain(written).collect(),
        workers: match workers {
            OptionEffect::Supervisor => WorkerChoice::Keep,
            OptionEffect::Addresses => WorkerChoice::Move,
            OptionEffect::Workers | OptionEffect::Fixed => WorkerChoice::Replace,
        },
    }
}

fn canary(spec: &ServiceSpec) -> Option<ControlRequest> {
    let canary = spec.canary.as_ref()?;
    let (command, directory) = canary_launch(spec, canary);
    let environment = variables(&canary_environment(spec, canary));
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Some(ControlRequest::Canary {
        launch: UpgradedLaunch {
            command: command.iter().map(OsString::from).collect(),
            directory: Some(directory.into()),
            environment,
        },
        share: canary.share,
        promotes_after: canary.after.map(milliseconds),
    })
}

fn variables(list: &[(String, String)]) -> Vec<(OsString, OsString)> {
    list.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// The rules of a policy with values.
fn rules(spec: &ServiceSpec) -> Option<TrafficRules> {
    let policy = spec.policy.as_ref()?;
    match policy.policy {
        SteeringPolicy::Only(name) => {
            Some(TrafficRules { values: policy.values.clone(), ..TrafficRules::new(name) })
        }
        SteeringPolicy::Auto => None,
    }
}
