//! A run whose supervisor was killed: what its record says about its command line.

use std::ffi::OsString;

use clap::{Args as _, FromArgMatches as _};
use sameport_policy::model::name::RunName;
use sameport_supervisor::control::client::{ClientError, DeadSupervisor};
use sameport_supervisor::control::protocol::WorkerUpdate;
use sameport_supervisor::{RunBegin, RunEvent};

use super::args::Args;
use super::plan;
use crate::error::{Failure, client_failure, revive_failure, run_failure, service_failure};
use crate::operations::named_runs::service_of;
use crate::operations::revive;
use crate::operations::revive::ReviveError;
use crate::operations::wait::{ChangeWait, Completion};
use crate::output::run::changes::revived_text;
use crate::output::run::reporter::StderrLines;
use crate::output::stderr;

/// Ends the workers that the supervisor left, with the options that it was started with.
///
/// # Errors
///
/// There is no record, or this process may not end the workers.
pub(crate) fn end_orphans(
    name: &RunName,
    dead: Box<DeadSupervisor>,
    now: bool,
    quiet: bool,
    on_update: &mut dyn FnMut(&WorkerUpdate),
) -> Result<(), Failure> {
    let arguments = arguments(name, &dead).unwrap_or_default();
    let Some(args) = parse(&arguments) else {
        return Err(client_failure(name, &ClientError::SupervisorDead(dead)));
    };
    let mut plan = plan::run_plan(args)?;
    if let Some(named) = &mut plan.named {
        named.begin = RunBegin::Stop { now };
        named.arguments = arguments;
    }
    let mut reporter = StderrLines::new(quiet);
    let mut report = |event| match event {
        RunEvent::WorkerChanged(update) => on_update(&update),
        event => reporter.report(&event),
    };
    let outcome = sameport_supervisor::run(&plan, &mut report);
    outcome.map(drop).map_err(|error| run_failure(&plan, &error))
}

/// Starts the supervisor again, and waits until it has replaced the workers. That of a service is its manager's
/// to start.
///
/// # Errors
///
/// See [`crate::operations::revive::ReviveError`].
pub(crate) fn revive(
    name: &RunName,
    dead: Box<DeadSupervisor>,
    quiet: bool,
    wait: ChangeWait,
    on_update: &mut dyn FnMut(&WorkerUpdate),
) -> Result<Completion, Failure> {
    let service = dead.record.as_ref().and_then(|record| service_of(&record.info));
    if let Some(unit) = service {
        return Err(service_failure(name, &unit));
    }
    let revived = match revive::start(&dead) {
        Ok(revived) => revived,
        Err(ReviveError::NotRecorded) => {
            return Err(client_failure(name, &ClientError::SupervisorDead(dead)));
        }
        Err(error) => return Err(revive_failure(name, &error)),
    };
    if !quiet {
        stderr::print(&revived_text(name, &dead, &revived));
    }
    let replaced = revived.wait(name, &dead.running_workers, wait, on_update);
    replaced.map_err(|error| revive_failure(name, &error))
}

/// The command line of the supervisor. A record of an earlier build has only the command.
pub(crate) fn arguments(name: &RunName, dead: &DeadSupervisor) -> Option<Vec<OsString>> {
    let record = dead.record.as_ref()?;
    Some(match &record.continuation {
        Some(continuation) => continuation.arguments.clone(),
        None => {
            let words = ["sameport", "run", "--name", name.as_str(), "--"].map(OsString::from);
            words.into_iter().chain(record.info.command.iter().cloned()).collect()
        }
    })
}

/// Reads the command line of another `sameport run`.
fn parse(arguments: &[OsString]) -> Option<Args> {
    let definition = Args::augment_args(clap::Command::new("run"));
    let matches = definition.try_get_matches_from(arguments.get(1..)?).ok()?;
    Args::from_arg_matches(&matches).ok()
}
