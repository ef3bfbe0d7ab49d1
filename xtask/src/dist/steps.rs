//! The steps of a release are other programs, which run in the root of the project.

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use crate::workspace::{root, target_folder};

/// Why there is no release.
pub(super) enum ReleaseError {
    /// This machine lacks something: what, and the command that installs it.
    Missing(String, String),
    /// A step failed.
    Step(String),
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what, _) | Self::Step(what) => formatter.write_str(what),
        }
    }
}

/// Runs a command in the root of the project, to its success. Its output goes where ours goes.
pub(super) fn succeed(command: &mut Command) -> Result<(), ReleaseError> {
    let status = command.current_dir(root()).status();
    let status = status.map_err(|error| step(&program(command), error))?;
    if status.success() { Ok(()) } else { Err(step(&format!("{command:?}"), status)) }
}

/// Runs a command in the root of the project, to its success, and returns its output.
pub(super) fn output_of(command: &mut Command) -> Result<String, ReleaseError> {
    let output = command.current_dir(root()).output();
    let output = output.map_err(|error| step(&program(command), error))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(ReleaseError::Step(format!("{command:?}: {}\n{errors}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

pub(super) fn step(what: &str, error: impl fmt::Display) -> ReleaseError {
    ReleaseError::Step(format!("{what}: {error}"))
}

pub(super) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The target directory of static executables. In `target` itself, cargo puts the build scripts of the
/// profile `dist` where the files of a release belong.
pub(super) fn build_folder() -> PathBuf {
    target_folder().join("static")
}
