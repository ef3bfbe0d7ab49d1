//! Where the output of a run is.

use std::path::{Path, PathBuf};

use sameport_policy::holder::{Unit, unit_of};
use sameport_policy::model::name::RunName;
use sameport_supervisor::control::client::{Client, ClientError};
use sameport_sys::kept_log;
use sameport_sys::users::{effective_uid, user_id};

use super::model::{LogQuery, LogsError, own_directory};
use crate::operations::named_runs::runs_of;

/// The place of a run's output.
#[derive(Debug)]
pub(super) enum LogPlace {
    /// A directory of files.
    Kept(PathBuf),
    /// The file of `--log`.
    File(PathBuf),
    /// The journal of a service.
    Journal(Unit),
}

/// A run whose output was found.
#[derive(Debug)]
pub(super) struct FoundLog {
    pub(super) place: LogPlace,
    pub(super) runs: Client,
    /// The user of the run.
    pub(super) uid: u32,
}

pub(super) fn find(query: &LogQuery) -> Result<FoundLog, LogsError> {
    let name = &query.name;
    let runs = runs_of(query.user.as_deref()).map_err(LogsError::Owner)?;
    let uid = query.user.as_ref().and_then(|user| user_id(user).or_else(|| user.parse().ok()));
    let directory = match uid {
        Some(uid) => kept_log::directory_of(name, uid),
        None => own_directory(name),
    };
    let directory = directory.filter(|it| it.join(kept_log::CURRENT).is_file());
    let kept = || directory.clone().map(LogPlace::Kept);
    let place = match runs.status(name) {
        Ok(status) => {
            let log = status.treatment.log.as_ref().map(Path::new);
            let place = log.map(|log| of_file(name, log));
            match place.or_else(|| journal(status.treatment.service.as_deref())) {
                Some(place) => place,
                None => return Err(LogsError::Foreground(status.pid, output_of(status.pid))),
            }
        }
        Err(error) => {
            let (log, service) = of_ended(&error);
            let place = log.map(|log| of_file(name, &log)).or_else(kept);
            match place.or_else(|| journal(service.as_deref())) {
                Some(place) => place,
                None => return Err(nothing(&runs, name, error)),
            }
        }
    };
    Ok(FoundLog { place, runs, uid: uid.unwrap_or_else(effective_uid) })
}

/// A file that a supervisor has named.
fn of_file(name: &RunName, log: &Path) -> LogPlace {
    let directory =
        log.parent().filter(|_| log.file_name().is_some_and(|it| it == kept_log::CURRENT));
    let is_named = |it: &&Path| it.file_name().is_some_and(|it| it == name.as_str());
    match directory.filter(is_named) {
        Some(directory) => LogPlace::Kept(directory.to_owned()),
        None => LogPlace::File(log.to_owned()),
    }
}

/// What is recorded of a run that has ended: its file, and its service.
fn of_ended(error: &ClientError) -> (Option<PathBuf>, Option<String>) {
    let (history, info) = match error.cause() {
        ClientError::Ended(ended) => (&ended.history, &ended.info),
        ClientError::SupervisorDead(dead) => match &dead.record {
            Some(record) => (&record.history, &record.info),
            None => return (None, None),
        },
        _ => return (None, None),
    };
    (history.log.as_ref().map(PathBuf::from), info.service.clone())
}

fn journal(service: Option<&str>) -> Option<LogPlace> {
    service.and_then(unit_of).map(LogPlace::Journal)
}

fn nothing(runs: &Client, name: &RunName, error: ClientError) -> LogsError {
    match error.cause() {
        ClientError::Ended(_) | ClientError::SupervisorDead(_) => LogsError::NotKept(error),
        ClientError::NoSuchRun(_) => {
            let mut names: Vec<String> = runs.names().iter().map(ToString::to_string).collect();
            let base = own_directory(name).and_then(|it| Some(it.parent()?.to_owned()));
            let entries = base.and_then(|base| std::fs::read_dir(base).ok());
            let kept = entries.into_iter().flatten().flatten();
            names.extend(kept.filter_map(|entry| entry.file_name().into_string().ok()));
            names.sort_unstable();
            names.dedup();
            LogsError::NoSuchRun(names, error)
        }
        _ => LogsError::Client(error),
    }
}

/// What the standard output of a process is.
fn output_of(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/fd/1")).ok()
}

impl FoundLog {
    /// Why the run writes no more; `None` while it may.
    pub(super) fn end(&self, name: &RunName) -> Option<ClientError> {
        match self.runs.status(name) {
            Ok(_) => None,
            Err(error) => match error.cause() {
                ClientError::SupervisorDead(dead) if dead.running_workers.is_empty() => Some(error),
                _ if error.is_over() => Some(error),
                _ => None,
            },
        }
    }
}
