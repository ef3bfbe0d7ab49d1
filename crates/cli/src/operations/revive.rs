//! Starts a run again whose supervisor was killed: a new supervisor, detached from the terminal, that takes
//! over the workers.

use std::ffi::OsString;
use std::process::ExitStatus;
use std::time::Duration;

use sameport_policy::model::name::RunName;
use sameport_supervisor::control::StartLine;
use sameport_supervisor::control::client::{Client, ClientError, DeadSupervisor};
use sameport_supervisor::control::continuation::RecordedWorker;
use sameport_supervisor::control::protocol::{ControlRequest, RunStatus, WorkerUpdate};
use sameport_sys::process::{ForeignProcess, environment_of};
use sameport_sys::{guarded, preload};

use super::detach::{DetachError, DetachedStart, StartingRun};
use super::runtime_dir::runtime_dir;
use super::wait;
use super::wait::{ChangeWait, Completion};

/// Time limit for reading an environment.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a run was not started again. Its old workers, if some live, are as before unless the run says
/// otherwise.
#[derive(Debug)]
pub(crate) enum ReviveError {
    /// The record does not have the command line.
    NotRecorded,
    /// The supervisor does not start.
    NotStarted(DetachError),
    /// The supervisor has ended.
    Ended(ExitStatus, OutputPlace),
    /// These old workers still serve: their replacements were not ready.
    NotReplaced(Vec<i32>),
    /// The supervisor did not answer as it should.
    Client(ClientError),
}

/// Where the output of a new supervisor goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputPlace {
    /// Where that of the old workers goes.
    OfWorkers,
    /// Where that of a run in the background goes: the run was one, or no worker lives.
    Background,
}

/// The new supervisor.
#[derive(Debug)]
pub(crate) struct Revived {
    /// Where its output goes.
    pub(crate) output: OutputPlace,
    run: StartingRun,
}

/// Starts the supervisor with the command line in the record, in its directory, with the environment of a
/// worker that lives. Returns when the run has begun. Its output is that of the worker, unless the run was in
/// the background.
///
/// # Errors
///
/// See [`ReviveError`].
pub(crate) fn start(dead: &DeadSupervisor) -> Result<Revived, ReviveError> {
    let record = dead.record.as_ref().ok_or(ReviveError::NotRecorded)?;
    let next = record.continuation.as_ref().ok_or(ReviveError::NotRecorded)?;
    let line = StartLine::of(&record.info, &next.arguments, &next.directory, next.copies);
    let StartLine { arguments, directory } = line.ok_or(ReviveError::NotRecorded)?;
    let identities = next.workers.iter().flat_map(RecordedWorker::identities);
    let worker = identities.filter_map(ForeignProcess::open).next();
    let duplicate =
        |worker: &ForeignProcess| Some((worker.duplicate(1).ok()?, worker.duplicate(2).ok()?));
    let output = worker.as_ref().filter(|_| !record.info.detached).and_then(duplicate);
    let place = if output.is_some() { OutputPlace::OfWorkers } else { OutputPlace::Background };
    let start = DetachedStart {
        arguments,
        environment: environment(worker.map(|worker| worker.pid())),
        directory: Some(directory.into()),
        output,
    };
    let mut run = start.spawn().map_err(ReviveError::NotStarted)?;
    run.until_begun(&mut |_| {}).map_err(ReviveError::NotStarted)?;
    Ok(Revived { output: place, run })
}

/// The environment of the supervisor: that of a worker without what sameport has set there.
fn environment(worker: Option<i32>) -> Vec<(OsString, OsString)> {
    let of_worker = worker.and_then(|pid| guarded::within(PATIENCE, move || environment_of(pid)));
    let own = || std::env::vars_os().collect();
    let mut variables: Vec<(OsString, OsString)> = of_worker.flatten().unwrap_or_else(own);
    let is_set_by_us = |name: &str, value: &OsString| {
        name.starts_with("SAMEPORT_")
            || name.starts_with("LISTEN_")
            || ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "PWD", "XDG_RUNTIME_DIR"]
                .contains(&name)
            || name == "LD_PRELOAD" && value.to_string_lossy().contains(preload::LIBRARY_PREFIX)
    };
    variables.retain(|(name, value)| !name.to_str().is_some_and(|it| is_set_by_us(it, value)));
    // The files of the run are where this process found them.
    variables.extend(runtime_dir().map(|value| ("XDG_RUNTIME_DIR".into(), value)));
    variables
}

impl Revived {
    /// The pid of the supervisor.
    pub(crate) fn pid(&self) -> u32 {
        self.run.pid()
    }

    /// Waits until the supervisor has replaced the old workers. `on_update` receives each step.
    ///
    /// # Errors
    ///
    /// See [`ReviveError`].
    pub(crate) fn wait(
        mut self,
        name: &RunName,
        old: &[i32],
        wait: ChangeWait,
        on_update: &mut dyn FnMut(&WorkerUpdate),
    ) -> Result<Completion, ReviveError> {
        let client = Client::new(runtime_dir());
        let followed = wait::change(&client, name, ControlRequest::Follow, wait, on_update);
        let completion = followed.map_err(|error| {
            // Its exit status says more.
            let is_over = error.is_over()
                || matches!(
                    error,
                    ClientError::SupervisorDead(_) | ClientError::SupervisorEnded(_)
                );
            match is_over.then(|| self.run.wait_for_end()).flatten() {
                Some(status) => ReviveError::Ended(status, self.output),
                None => ReviveError::Client(error),
            }
        })?;
        if completion != Completion::Done {
            return Ok(completion);
        }
        let status = client.status(name).map_err(ReviveError::Client)?;
        let serves = |pid: &i32| is_ready(&status, *pid);
        let left: Vec<i32> = old.iter().copied().filter(serves).collect();
        if left.is_empty() { Ok(completion) } else { Err(ReviveError::NotReplaced(left)) }
    }
}

fn is_ready(status: &RunStatus, pid: i32) -> bool {
    use sameport_supervisor::control::protocol::WorkerPhase;

    let mut workers = status.workers.iter();
    workers.any(|worker| worker.pid == Some(pid) && worker.state == WorkerPhase::Ready)
}
