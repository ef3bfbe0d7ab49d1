//! The program that a supervisor executes in its place, checked before the `exec`: afterwards it is too late.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sameport_sys::process;

use crate::control::protocol::{ControlReply, FaultKind};
use crate::handover::SupervisorLine;
use crate::plan::PROGRAM;
use crate::termination::SIGKILL;

/// The environment variable with which `run` checks its arguments, and starts nothing. Its value is
/// [`CHECK_DETACHED`] if they are for a supervisor in the background.
pub const CHECK: &str = "SAMEPORT_CHECK";

/// See [`CHECK`].
pub const CHECK_DETACHED: &str = "detached";

/// Time limit for a program to print its version, or to check arguments.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// The file to execute: the requested one, or the current path of this program, where an upgrade may
/// have installed another file.
pub(crate) fn program(requested: Option<OsString>) -> PathBuf {
    requested.map_or_else(
        || {
            let own = std::env::current_exe().unwrap_or_default().into_os_string();
            let own = own.to_string_lossy();
            PathBuf::from(own.strip_suffix(" (deleted)").unwrap_or(&own))
        },
        PathBuf::from,
    )
}

/// Runs `PROGRAM --version`: after `exec` it is too late to find out that the file is not sameport.
pub(crate) fn check_program(program: &Path) -> Result<(), String> {
    let shown = program.display();
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = ended(program, &mut command)?;
    let mut version = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        // Output that is not UTF-8 fails the comparison.
        let _ = stdout.read_to_string(&mut version);
    }
    match version.split(' ').next() == Some(PROGRAM) {
        true => Ok(()),
        false => Err(format!("{shown} is not a sameport binary")),
    }
}

/// Lets the program check the arguments of a run, which begins nothing. The error is what the program
/// says about them, for the client. `detached`: whether the run is in the background.
pub(crate) fn check_line(
    program: &Path,
    line: &SupervisorLine,
    detached: bool,
) -> Result<(), ControlReply> {
    /// Most of what a program may say.
    const MOST: u64 = 16 * 1024;
    let mut command = Command::new(program);
    command
        .args(line.arguments.iter().skip(1))
        .current_dir(&line.directory)
        .env_clear()
        .envs(line.environment.iter().map(|(name, value)| (name, value)))
        .env(CHECK, if detached { CHECK_DETACHED } else { "1" })
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let failed = |error: String| ControlReply::failed(error, None);
    let mut child = ended(program, &mut command).map_err(failed)?;
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(MOST).read_to_end(&mut said);
    }
    let said = String::from_utf8_lossy(&said);
    let part = |start: &str| said.lines().find_map(|line| line.strip_prefix(start));
    let error = part("error: ").map_or_else(
        || format!("{} refuses the arguments: {status}", program.display()),
        str::to_owned,
    );
    Err(ControlReply::Failed {
        fault: match status.code() {
            Some(2) => FaultKind::Usage,
            Some(3) => FaultKind::Unsupported,
            Some(126) => FaultKind::NotExecutable,
            Some(127) => FaultKind::NotFound,
            _ => FaultKind::Other,
        },
        error,
        hint: part("hint: ").map(str::to_owned),
    })
}

/// Runs a command to its end.
fn ended(program: &Path, command: &mut Command) -> Result<Child, String> {
    let shown = program.display();
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("{shown}: {error}"))?;
    let pid = child.id().cast_signed();
    let until = Instant::now() + VERSION_TIMEOUT;
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        let rest = until.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            // The event loop reaps the program and its children.
            let _ = process::signal_group(pid, SIGKILL);
            let seconds = VERSION_TIMEOUT.as_secs();
            return Err(format!("{shown} does not end within {seconds} s"));
        }
        process::wait_exit(pid, rest).map_err(|errno| format!("{shown}: {errno}"))?;
    }
    Ok(child)
}
