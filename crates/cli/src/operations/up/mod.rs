//! The services of a file and the runs that there are: what `up` changes, and carrying it out.

mod apply;
mod look;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use sameport_policy::model::name::RunName;
use sameport_policy::services::changes::{ServiceChange, WantedRun, changes};
use sameport_policy::services::{ServiceFile, ServiceSpec, WorkerCount};
use sameport_supervisor::control::client::{Client, ClientError};
use sameport_supervisor::control::protocol::WorkerUpdate;
use sameport_sys::run_files::{ClaimError, NameClaim, folders};

use super::runtime_dir::runtime_dir;
use crate::args::parse_copies;

pub(crate) use apply::{StepContext, StepError, StepProgress, apply, supervisor_line};
pub(crate) use look::{RunOwner, ServiceRun, look};

/// Rounds of steps after which a service is left as it is: a canary that ends is followed by the upgrade.
const ROUNDS: usize = 4;

/// Interval of attempts to become the only `up` of a file.
const INTERVAL: Duration = Duration::from_millis(100);

/// A service, its run, and the steps between them.
#[derive(Debug, Clone)]
pub(crate) struct ServiceSteps {
    pub(crate) spec: ServiceSpec,
    pub(crate) seen: ServiceRun,
    pub(crate) changes: Vec<ServiceChange>,
}

/// How the change of a service ended.
#[derive(Debug)]
pub(crate) struct ServiceResult {
    pub(crate) name: RunName,
    /// The steps that are done.
    pub(crate) done: Vec<ServiceChange>,
    /// What the ends of workers cut, as their supervisor says it.
    pub(crate) cut: Vec<String>,
    /// What a supervisor or a worker said before a failure.
    pub(crate) said: Vec<String>,
    pub(crate) failure: Option<StepError>,
}

/// The number of workers that a service is to have.
pub(crate) fn copies(spec: &ServiceSpec) -> u16 {
    match spec.workers {
        WorkerCount::Number(number) => number,
        WorkerCount::Auto => parse_copies("auto").unwrap_or(1),
    }
}

/// Compares a service with its run.
///
/// # Errors
///
/// The supervisor of the run does not answer.
pub(crate) fn plan(
    client: &Client,
    spec: &ServiceSpec,
    origin: &Path,
) -> Result<ServiceSteps, ClientError> {
    let seen = look(client, &spec.name)?;
    let arguments = supervisor_line(spec, origin);
    let wanted = WantedRun { spec, copies: copies(spec), arguments: &arguments };
    let changes = changes(wanted, &seen.present);
    Ok(ServiceSteps { spec: spec.clone(), seen, changes })
}

/// Changes services side by side. `tell` gets each result as soon as it is known.
pub(crate) fn change_all(
    context: &StepContext,
    plans: Vec<ServiceSteps>,
    hear: &(dyn Fn(&RunName, StepProgress<'_>) + Sync),
    tell: &mut dyn FnMut(ServiceResult),
) {
    let (sender, results) = channel();
    thread::scope(|scope| {
        for plan in plans {
            let sender: Sender<ServiceResult> = sender.clone();
            scope.spawn(move || {
                // The receiver waits for every sender.
                let _ = sender.send(change(context, plan, hear));
            });
        }
        drop(sender);
        for result in results {
            tell(result);
        }
    });
}

fn change(
    context: &StepContext,
    first: ServiceSteps,
    hear: &(dyn Fn(&RunName, StepProgress<'_>) + Sync),
) -> ServiceResult {
    let spec = first.spec.clone();
    let mut result = ServiceResult {
        name: spec.name.clone(),
        done: Vec::new(),
        cut: Vec::new(),
        said: Vec::new(),
        failure: None,
    };
    let mut next = first;
    for _ in 0..ROUNDS {
        let ServiceSteps { seen, changes, .. } = next;
        for step in &changes {
            let (cut, said) = (&mut result.cut, &mut result.said);
            let mut progress = |progress: StepProgress<'_>| {
                match &progress {
                    StepProgress::Worker(WorkerUpdate { why: Some(why), .. })
                        if why.contains("cut") =>
                    {
                        cut.push(why.clone());
                    }
                    StepProgress::Line(line) => said.push((*line).to_owned()),
                    StepProgress::Worker(_) => {}
                }
                hear(&spec.name, progress);
            };
            if let Err(error) = apply(context, &spec, &seen, step, &mut progress) {
                result.failure = Some(error);
                return result;
            }
            result.done.push(step.clone());
        }
        let has_more = changes.iter().any(|step| {
            matches!(step, ServiceChange::RollBack | ServiceChange::Promote | ServiceChange::Reexec)
                || matches!(step, ServiceChange::Start | ServiceChange::TakeOver)
        });
        if !has_more {
            break;
        }
        match plan(&context.client, &spec, &context.origin) {
            Ok(again) if again.changes.is_empty() => break,
            // A start that the supervisor does not confirm yet would only repeat.
            Ok(again) if again.changes.iter().any(is_start) => break,
            Ok(again) => next = again,
            Err(error) => {
                result.failure = Some(error.into());
                return result;
            }
        }
    }
    result
}

fn is_start(change: &ServiceChange) -> bool {
    matches!(change, ServiceChange::Start | ServiceChange::TakeOver | ServiceChange::Restart { .. })
}

/// The runs of a file: their names.
pub(crate) fn runs_of_file(client: &Client, origin: &Path) -> Vec<RunName> {
    let of_file = |name: &RunName| {
        look(client, name).is_ok_and(|seen| seen.owner == RunOwner::File(origin.to_owned()))
    };
    client.names().into_iter().filter(of_file).collect()
}

/// Stops runs side by side. `tell` gets each result as soon as it is known.
pub(crate) fn stop_all<E: Send>(
    names: Vec<RunName>,
    stop: &(dyn Fn(&RunName) -> Result<(), E> + Sync),
    tell: &mut dyn FnMut(RunName, Result<(), E>),
) {
    let (sender, results) = channel();
    thread::scope(|scope| {
        for name in names {
            let sender = sender.clone();
            scope.spawn(move || {
                let result = stop(&name);
                // The receiver waits for every sender.
                let _ = sender.send((name, result));
            });
        }
        drop(sender);
        for (name, result) in results {
            tell(name, result);
        }
    });
}

/// The right to change the services of a file. The next `up` of this user waits until it is dropped.
#[derive(Debug)]
pub(crate) struct FileLock {
    _claim: NameClaim,
}

/// Becomes the only `up` of this user that changes the services of a file. `waits` gets, once, the pid of
/// the one that has to end first, if it is known.
///
/// # Errors
///
/// There is no directory for the lock, or `limit` is over.
pub(crate) fn lock(
    file: &Path,
    limit: Duration,
    waits: &mut dyn FnMut(Option<i32>),
) -> Result<FileLock, ClaimError> {
    let name = lock_name(file);
    let folders = folders(runtime_dir().as_deref().map(Path::new));
    let until = Instant::now() + limit;
    let mut has_told = false;
    loop {
        match NameClaim::take(&name, &folders) {
            Ok(claim) => return Ok(FileLock { _claim: claim }),
            Err(ClaimError::InUse(pid)) if Instant::now() < until => {
                if !std::mem::replace(&mut has_told, true) {
                    waits(pid);
                }
                thread::sleep(INTERVAL);
            }
            Err(error) => return Err(error),
        }
    }
}

/// A name that no other file has: `up-` and the FNV-1a hash of its path.
fn lock_name(file: &Path) -> RunName {
    let bytes = file.as_os_str().as_encoded_bytes().iter();
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("up-{hash:016x}").parse().unwrap_or_else(|_| unreachable!("letters and digits"))
}

/// The services of these names, or all; the names that the file does not have.
pub(crate) fn selected(file: &ServiceFile, names: &[RunName]) -> (Vec<ServiceSpec>, Vec<RunName>) {
    let has = |name: &&RunName| file.services.iter().any(|service| service.name == **name);
    let unknown: Vec<RunName> = names.iter().filter(|name| !has(name)).cloned().collect();
    let is_selected = |service: &&ServiceSpec| names.is_empty() || names.contains(&service.name);
    (file.services.iter().filter(is_selected).cloned().collect(), unknown)
}

/// The absolute path of a file, with its directory resolved: the identity of a file of services.
pub(crate) fn identity(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let resolved = absolute.parent().and_then(|parent| parent.canonicalize().ok());
    match (resolved, absolute.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => absolute,
    }
}
