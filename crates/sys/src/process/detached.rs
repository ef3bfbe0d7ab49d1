//! Starting a process that outlives this one and its terminal.

#![expect(unsafe_code, reason = "setsid(2) between fork and exec")]

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A process to start.
#[derive(Debug)]
pub struct DetachedCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub directory: PathBuf,
    /// Its standard output and error; `None`: `/dev/null`.
    pub output: Option<(OwnedFd, OwnedFd)>,
}

impl DetachedCommand {
    /// Starts the process in a session of its own, without a terminal, with `/dev/null` as its input.
    /// It lives on after this process.
    ///
    /// # Errors
    ///
    /// Errors of `fork(2)`, `chdir(2)` and `execve(2)`.
    pub fn spawn(self) -> io::Result<Child> {
        let Self { program, arguments, environment, directory, output } = self;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(environment).current_dir(directory);
        let (stdout, stderr) = match output {
            Some((stdout, stderr)) => (stdout.into(), stderr.into()),
            None => (Stdio::null(), Stdio::null()),
        };
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let lead = || Ok(rustix::process::setsid().map(drop)?);
        // SAFETY: `lead` makes one system call, and neither allocates nor locks.
        unsafe { command.pre_exec(lead) };
        command.spawn()
    }
}

/// The environment that a process was executed with (`/proc/PID/environ`). `None` if it cannot be read.
///
/// The kernel reads the memory of the process, which blocks if the process has replaced its
/// environment by a mapped file of a file system that does not respond.
#[must_use]
pub fn environment_of(pid: i32) -> Option<Vec<(OsString, OsString)>> {
    use std::os::unix::ffi::OsStringExt as _;

    let environment =
        std::fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).ok()?;
    let entries = environment.split(|byte| *byte == 0).filter_map(|entry| {
        let at = entry.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((text(&entry[..at]), text(&entry[at + 1..])))
    });
    Some(entries.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_process_leads_a_session() {
        let (reader, writer) = std::io::pipe().unwrap();
        let output = (OwnedFd::from(writer.try_clone().unwrap()), OwnedFd::from(writer));
        let script = "read -r line; echo \"$line$A$PWD\"; cut -d' ' -f6 /proc/$$/stat; echo $$";
        let command = DetachedCommand {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("A".into(), "1".into()), ("PATH".into(), "/usr/bin:/bin".into())],
            directory: "/".into(),
            output: Some(output),
        };
        let mut child = command.spawn().unwrap();
        assert!(child.wait().unwrap().success());
        let text = std::io::read_to_string(reader).unwrap();
        assert_eq!(text, format!("1/\n{0}\n{0}\n", child.id()));
    }

    #[test]
    fn an_environment_is_read() {
        let own = environment_of(std::process::id().cast_signed()).unwrap();
        assert!(own.contains(&("PATH".into(), std::env::var_os("PATH").unwrap())));
        assert_eq!(environment_of(i32::MAX), None);
    }
}
