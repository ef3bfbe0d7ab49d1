//! Advice for services of a file that are not as they are written.

use std::path::Path;

use sameport_policy::model::name::RunName;
use sameport_policy::services::ServiceFile;
use sameport_policy::spelling::nearest;
use sameport_sys::run_files::ClaimError;

use super::client::client_failure;
use super::detach::detach_failure;
use super::{ExitKind, Failure};
use crate::operations::up::{RunOwner, ServiceRun, StepError};
use crate::operations::watch::WatchError;
use crate::output::shell;
use crate::output::text::{pid_remark, sentence_list};

/// Names in one message.
const LISTED: usize = 8;

/// A step that failed.
pub(crate) fn step_failure(name: &RunName, error: &StepError) -> Failure {
    match error {
        StepError::Start(error) => detach_failure(name, error),
        StepError::Client(error) => {
            let failure = client_failure(name, error);
            // The supervisor's words about a worker without the addresses of the one before it.
            match failure.message.contains("missing; the worker listens on") {
                true => failure.hint(format!(
                    "new workers listen where the old ones do; to give the service other ports, stop it \
                     first: sameport down {name}"
                )),
                false => failure,
            }
        }
    }
}

/// A run that `up` of this file does not change.
pub(crate) fn service_obstacle(name: &RunName, seen: &ServiceRun) -> Failure {
    let pid = pid_remark(seen.pid);
    match &seen.owner {
        RunOwner::File(file) => {
            let file = file.display().to_string();
            Failure::failed(format!("a run of this name{pid} belongs to {file}")).hint(format!(
                "give the service another name, or stop the other one: sameport down -f {} {name}",
                shell::word(&file)
            ))
        }
        RunOwner::Manager => Failure::failed(format!(
            "a service manager has started a run of this name{pid}"
        ))
        .hint("its unit says how it runs: stop the unit first, or leave the service out here"),
        RunOwner::Hand | RunOwner::None => {
            Failure::failed(format!("a run of this name{pid} was started by hand"))
                .hint("--adopt takes it over, without a lost connection")
        }
    }
}

/// Services that the file does not have.
pub(crate) fn unknown_services(unknown: &[RunName], file: &ServiceFile) -> Failure {
    let names: Vec<&str> = file.services.iter().map(|service| service.name.as_str()).collect();
    let failure = Failure::usage(format!(
        "{} has no service {}",
        file.path.display(),
        sentence_list(unknown, LISTED)
    ));
    let near = unknown.first().and_then(|name| nearest(name.as_str(), names.iter().copied()));
    failure.hint(match near {
        Some(near) => format!("it has {near}"),
        None => format!("it has {}", sentence_list(names, LISTED)),
    })
}

/// A run that `down` of a file does not stop.
pub(crate) fn not_of_file(name: &RunName, file: &Path, names: &[RunName]) -> Failure {
    let failure = Failure::usage(format!("{name} is no run of {}", file.display()));
    match names {
        [] => failure.hint("`sameport status` lists all runs"),
        names => failure.hint(format!("its runs are {}", sentence_list(names, LISTED))),
    }
}

/// The lock of a file of services that cannot be had.
pub(crate) fn lock_failure(error: &ClaimError) -> Failure {
    match error {
        ClaimError::InUse(pid) => {
            let pid = pid_remark(*pid);
            Failure::failed(format!("another `sameport up` of this file{pid} is not done"))
                .hint("try again when it has ended")
        }
        error => Failure::new(ExitKind::Failed, error)
            .hint("XDG_RUNTIME_DIR names a directory of yours that no other user can write to"),
    }
}

/// Paths that cannot be watched.
pub(crate) fn watch_failure(error: &WatchError) -> Failure {
    match error {
        WatchError::Path(path, error) => {
            Failure::usage(format!("--watch {}: {error}", path.display()))
                .hint("name a file or a directory that exists")
        }
        WatchError::TooMany(directories) => Failure::failed(format!(
            "inotify_add_watch: the limit of watches is reached after {directories} directories"
        ))
        .hint("watch less, or as root: sysctl fs.inotify.max_user_watches=524288"),
        WatchError::System(call, error) => Failure::failed(format!("{call}: {error}")),
    }
}
