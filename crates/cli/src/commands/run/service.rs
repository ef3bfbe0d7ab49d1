//! The command line of `run` as the content of a service: `sameport install-service`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _};
use sameport_policy::model::name::RunName;
use sameport_policy::service_unit::UnitScope;

use super::{Args, refuse};
use crate::error::Failure;
#[cfg(target_os = "linux")]
use crate::operations::install_service::ServiceRequest;

/// Options that a unit expresses by its own settings.
const SETTINGS: [&str; 3] = ["user", "directory", "env"];

/// Options about the terminal that `run` starts from, which a service does not have.
const OF_A_TERMINAL: [&str; 2] = ["detach", "wait"];

/// Options about the files of a run in the background.
const OF_KEPT_FILES: [&str; 2] = ["log_size", "log_files"];

/// The options of `run`, for a verb whose first argument is the name of the run and whose command is optional
/// with these options.
pub(crate) fn definition(command: clap::Command, without: &[&'static str]) -> clap::Command {
    let mut command = Args::augment_args(command)
        .mut_arg("name", |name| {
            name.long(None)
                .index(1)
                .required(true)
                .help("The name of the run and of its unit, NAME.service")
        })
        .mut_arg("command", |program| {
            program.index(2).required(false).required_unless_present_any(without)
        });
    for id in OF_A_TERMINAL.into_iter().chain(OF_KEPT_FILES) {
        if command.get_arguments().any(|arg| arg.get_id() == id) {
            command = command.mut_arg(id, |arg| arg.hide(true));
        }
    }
    command
}

/// The request of a service.
///
/// # Errors
///
/// The options contradict each other.
#[cfg(target_os = "linux")]
pub(crate) fn request(
    name: RunName,
    scope: UnitScope,
    args: Args,
    options: Vec<OsString>,
) -> Result<ServiceRequest, Failure> {
    const FIRST_FREE: u16 = 1024;
    refuse(&args)?;
    let listens = args.named.listen.iter().map(|spec| spec.port);
    let mapped = args.rules.iter().filter_map(|rule| rule.to.port);
    let low_port = listens.chain(mapped).any(|port| port < FIRST_FREE);
    Ok(ServiceRequest {
        name,
        scope,
        dry_run: false,
        hardened: false,
        env_files: Vec::new(),
        options,
        user: args.launch.user,
        directory: args.launch.directory,
        environment: args.launch.env,
        command: args.command,
        ending: args.named.drain.drain_timeout.saturating_add(args.named.drain.grace),
        low_port,
    })
}

/// The name of the run, and whether options were given that settings of a unit express.
pub(crate) fn name_and_settings(args: &Args) -> (Option<&RunName>, bool) {
    let launch = &args.launch;
    let settings = launch.user.is_some() || launch.directory.is_some() || !launch.env.is_empty();
    (args.named.name.as_ref(), settings)
}

/// The options of `run` that were typed, each with its value, in the order of the help. Those of the settings of
/// a unit are left out.
///
/// # Errors
///
/// An option that needs a terminal.
pub(crate) fn typed_options(matches: &ArgMatches) -> Result<Vec<OsString>, Failure> {
    let definition = Args::augment_args(clap::Command::new("run"));
    let mut words = Vec::new();
    for option in definition.get_arguments() {
        let id = option.get_id().as_str();
        let is_typed = matches.value_source(id) == Some(ValueSource::CommandLine);
        if !is_typed || ["name", "command"].contains(&id) || SETTINGS.contains(&id) {
            continue;
        }
        let name = match (option.get_long(), option.get_short()) {
            (Some(long), _) => format!("--{long}"),
            (None, short) => format!("-{}", short.unwrap_or_default()),
        };
        if OF_A_TERMINAL.contains(&id) {
            return Err(Failure::usage(format!("{name} is for a run without a service manager"))
                .hint("leave it out: `systemctl start` returns when every worker is ready"));
        }
        if OF_KEPT_FILES.contains(&id) {
            return Err(Failure::usage(format!("{name} is for a run in the background")).hint(
                "leave it out: the journal keeps the output of a service, see journald.conf(5)",
            ));
        }
        if !option.get_action().takes_values() {
            words.push(name.into());
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            if value.as_encoded_bytes().starts_with(b"-") {
                let mut word = OsString::from(format!("{name}="));
                word.push(value);
                words.push(word);
            } else {
                words.extend([OsString::from(&name), absolute(id, value.into())]);
            }
        }
    }
    Ok(words)
}

/// A path of a file is relative to the directory of the caller, which a service does not have.
fn absolute(id: &str, value: OsString) -> OsString {
    match id {
        "log" => std::path::absolute(Path::new(&value)).map_or(value, PathBuf::into_os_string),
        _ => value,
    }
}
