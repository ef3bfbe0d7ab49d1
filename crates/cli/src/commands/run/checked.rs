//! Services as command lines of `run`: `run` itself says what it would refuse, before anything starts.

use std::ffi::OsString;

use clap::{Args as _, FromArgMatches as _};
use sameport_policy::services::ServiceFile;

use super::{Args, plan, refuse};
use crate::error::Failure;
use crate::output::shell::os_command;

/// Checks what contradicts itself in the services of a file, and their users.
///
/// # Errors
///
/// A failure for each service that `run` would refuse.
pub(crate) fn check_services(file: &ServiceFile) -> Result<(), Failure> {
    let shown = file.path.file_name().unwrap_or(file.path.as_os_str()).to_string_lossy();
    let failures = file.services.iter().filter_map(|service| {
        let failure = check(service.whole_arguments()).err()?;
        let message = format!("{shown}:{}: {}: {}", service.line, service.name, failure.message);
        Some(Failure { message, ..failure })
    });
    let mut failures: Vec<Failure> = failures.collect();
    if failures.is_empty() {
        return Ok(());
    }
    let mut first = failures.remove(0);
    first.also = failures;
    Err(first)
}

/// Checks a command line that begins with `run`.
fn check(line: Vec<OsString>) -> Result<(), Failure> {
    let definition = Args::augment_args(clap::Command::new("run"));
    let parsed =
        definition.try_get_matches_from(line).and_then(|matches| Args::from_arg_matches(&matches));
    let args = parsed.map_err(|error| {
        let text = error.to_string();
        let first = text.split("\n\n").next().unwrap_or_default();
        let first = first.strip_prefix("error: ").unwrap_or(first);
        Failure::usage(first.split_whitespace().collect::<Vec<_>>().join(" "))
            .hint("each key is the option of this name: leave one of those out")
    })?;
    refuse(&args)?;
    plan::run_plan(args).map(|_| ())
}

/// The command line of each service, one a line. Variables are named without their values.
pub(crate) fn service_lines(file: &ServiceFile) -> String {
    let line = |words: Vec<OsString>| {
        let words = std::iter::once("sameport".into()).chain(words);
        format!("{}\n", os_command(words))
    };
    file.services.iter().map(|service| line(service.run_arguments())).collect()
}
