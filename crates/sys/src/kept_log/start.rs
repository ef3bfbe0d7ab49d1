//! The process that reads the pipes.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use super::channel::{PipeSender, channel};
use crate::process;
use crate::process::signal_set::SignalSet;
use crate::process::without_descriptors;

/// Signals that are meant for the run: a log writer outlives it, and ends when the last pipe has no writer.
const IGNORED: [i32; 9] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTSTP,
    libc::SIGPIPE,
];

/// A started log writer.
#[derive(Debug)]
pub struct LogWriterProcess {
    /// Its process id. It is a child of this process, and no worker.
    pub pid: i32,
    /// Passes pipes to it.
    pub pipes: PipeSender,
}

impl LogWriterProcess {
    /// Starts the program of this process again with these arguments. Its standard input is the channel, its standard
    /// output `/dev/null` or, with `inherit`, that of this process.
    ///
    /// # Errors
    ///
    /// Errors of `socketpair(2)`, `fork(2)` and `execve(2)`.
    pub fn start(program_name: &str, arguments: &[OsString], inherit: bool) -> io::Result<Self> {
        let (pipes, theirs) = channel()?;
        let output = || if inherit { Stdio::inherit() } else { Stdio::null() };
        // The file that this process executes, also after an upgrade has replaced its path.
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0(program_name)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(output())
            .stderr(Stdio::null());
        // After an `exec`, descriptors of the run are inheritable. A listening socket that a log writer has too would
        // get connections after its worker's end, which nobody accepts.
        without_descriptors(&mut command);
        let child = command.spawn()?;
        let pid = child.id().cast_signed();
        process::exempt(pid);
        Ok(Self { pid, pipes })
    }

    /// A log writer that the program before an `exec` started.
    #[must_use]
    pub fn inherited(pid: i32, pipes: OwnedFd) -> Self {
        process::exempt(pid);
        Self { pid, pipes: PipeSender::from_fd(pipes) }
    }
}

/// Makes this process one that no signal of the terminal or of a service manager ends, except SIGKILL.
///
/// # Errors
///
/// Errors of `sigprocmask(2)`.
pub fn outlive_the_run() -> io::Result<()> {
    SignalSet::new(&IGNORED).block()?;
    // Fails for the leader of a group, which has no terminal's signals to fear either.
    let _ = rustix::process::setsid();
    // `ps` shows the name. Fails never.
    let _ = rustix::thread::set_name(c"sameport-log");
    Ok(())
}
