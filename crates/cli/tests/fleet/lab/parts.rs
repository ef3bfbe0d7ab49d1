//! What a lab is made of, and how it waits.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The number of machines.
pub(crate) const MACHINES: u8 = 3;

/// What a lab is made of.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// The sameport executable.
    pub(crate) sameport: PathBuf,
    /// Another one, to which it is upgraded.
    pub(crate) newer: PathBuf,
    /// `tests/programs/fleet.c`, compiled.
    pub(crate) fleet: PathBuf,
    pub(crate) haproxy: PathBuf,
    /// An empty directory.
    pub(crate) directory: PathBuf,
    /// Variables of every process.
    pub(crate) environment: Vec<(String, PathBuf)>,
}

/// The output of a command that must succeed.
pub(crate) fn output(mut command: Command) -> Result<String, String> {
    let said =
        command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let (stdout, stderr) =
        (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    match said.status.success() {
        true => Ok(stdout.into_owned()),
        false => Err(format!("{command:?}: {}: {stdout}{stderr}", said.status)),
    }
}

/// Asks until there is an answer. On a busy machine everything takes longer.
pub(crate) fn wait<T>(
    what: &str,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    const LIMIT: Duration = Duration::from_secs(120);
    let begin = Instant::now();
    loop {
        match attempt() {
            Ok(found) => return Ok(found),
            Err(last) if begin.elapsed() > LIMIT => return Err(format!("{what}: {last}")),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A program that a lab needs, in the usual directories.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let directories = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    directories.iter().map(|it| Path::new(it).join(program)).find(|file| file.is_file())
}
