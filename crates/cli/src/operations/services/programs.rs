//! The directories and programs of services on this machine.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use sameport_policy::services::tree::FilePosition;
use sameport_policy::services::{ServiceFault, ServiceFile, ServiceSpec};
use sameport_supervisor::control::command::find_executable;
use sameport_supervisor::control::protocol::FaultKind;

use super::file_error::error_text;

/// What a worker would be started from.
struct Launch<'a> {
    /// The table: `web`, or `web.canary`.
    key: &'a str,
    command: &'a [String],
    directory: &'a Path,
    search_path: Option<&'a OsStr>,
}

/// Each service whose directory is none, or whose program is not found from there. `place`: the place of a key
/// of a service.
pub(super) fn faults(
    file: &ServiceFile,
    place: &dyn Fn(&str, &str) -> FilePosition,
) -> Vec<ServiceFault> {
    let own = std::env::var_os("PATH");
    let mut faults = Vec::new();
    for service in &file.services {
        let name = service.name.as_str();
        let path = path_of(&service.environment).or_else(|| own.clone());
        let launch = Launch {
            key: "command",
            command: &service.command,
            directory: &service.directory,
            search_path: path.as_deref(),
        };
        faults.extend(fault(&launch, "directory", &|key| place(name, key)));
        faults.extend(canary_fault(service, path.as_deref(), &|_| place(name, "canary")));
    }
    faults
}

fn canary_fault(
    service: &ServiceSpec,
    path: Option<&OsStr>,
    place: &dyn Fn(&str) -> FilePosition,
) -> Option<ServiceFault> {
    let canary = service.canary.as_ref()?;
    // What the canary has of the service is checked there.
    if canary.command.is_none() && canary.directory.is_none() {
        return None;
    }
    let own = path_of(&canary.environment);
    let launch = Launch {
        key: "canary.command",
        command: canary.command.as_deref().unwrap_or(&service.command),
        directory: canary.directory.as_deref().unwrap_or(&service.directory),
        search_path: own.as_deref().or(path),
    };
    fault(&launch, "canary.directory", place)
}

fn path_of(environment: &[(String, String)]) -> Option<OsString> {
    let found = environment.iter().find(|(name, _)| name == "PATH");
    found.map(|(_, value)| value.into())
}

fn fault(
    launch: &Launch<'_>,
    directory_key: &str,
    place: &dyn Fn(&str) -> FilePosition,
) -> Option<ServiceFault> {
    let directory = launch.directory.display();
    let found = std::fs::metadata(launch.directory);
    if !found.as_ref().is_ok_and(std::fs::Metadata::is_dir) {
        let error = found.err().map_or("it is no directory".into(), |error| error_text(&error));
        let message = format!("{directory_key} {directory}: {error}");
        return Some(
            ServiceFault::new(place(directory_key), message)
                .hint("a directory is relative to that of the file"),
        );
    }
    let program = launch.command.first()?;
    let missing =
        find_executable(OsStr::new(program), launch.search_path, Some(launch.directory)).err()?;
    let what = match missing {
        FaultKind::NotFound => "is not found",
        _ => "cannot be executed",
    };
    let hint = match program.contains('/') {
        true => format!("it is searched from {directory}"),
        false => format!(
            "it is searched in PATH: {}; write ./{program} for a file of {directory}",
            launch.search_path.map_or("/bin:/usr/bin".into(), OsStr::to_string_lossy)
        ),
    };
    let message = format!("{}: {program} {what}", launch.key);
    Some(ServiceFault::new(place(launch.key), message).hint(hint))
}
