//! A supervisor that is started in the background, up to the beginning of its run.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};

use sameport_policy::membership::run_line::{RunLine, undetached};
use sameport_policy::model::name::RunName;
use sameport_supervisor::control::client::ClientError;
use sameport_supervisor::control::protocol::{RunStatus, WorkerUpdate};
use sameport_supervisor::{DETACHED, HANDOVER_FD, START_FD};
use sameport_sys::process::start_messages::{MessageReceiver, message_pair};
use sameport_sys::process::{DetachedCommand, find_in_path};

use super::report::{StartFailure, StartMessage, receive};

/// A supervisor that runs in the background.
#[derive(Debug)]
pub(crate) struct DetachedRun {
    /// Its pid.
    pub(crate) pid: u32,
    /// The run, when it had begun or, with a wait, when every worker was ready.
    pub(crate) status: Box<RunStatus>,
}

/// What happens while a start is waited for.
#[derive(Debug)]
pub(crate) enum DetachProgress<'a> {
    /// The run has begun, under the supervisor with this pid; its workers are waited for.
    Begun(u32),
    /// A worker changed its state.
    Worker(&'a WorkerUpdate),
    /// A line that the supervisor would print in the foreground.
    Line(&'a str),
    /// A line of the output of a worker that ended badly.
    Output(u16, &'a str),
}

/// Why a run was not started.
#[derive(Debug)]
pub(crate) enum DetachError {
    /// The command line is not one of a named run.
    NoName,
    /// The supervisor cannot be executed.
    NotStarted(io::Error),
    /// The supervisor's own error. Nothing is left.
    Refused(StartFailure),
    /// The supervisor ended without an error. Nothing is left, except what a killed supervisor leaves.
    Ended(ExitStatus),
    /// It did not answer as it should.
    Client(ClientError),
    /// Not every worker got ready.
    NotReady {
        /// Why, with the worker.
        why: String,
        /// Whether the run goes on: it serves with workers that it took over.
        goes_on: bool,
    },
}

/// A supervisor to start.
#[derive(Debug)]
pub(crate) struct DetachedStart {
    /// Its command line, program name first. `--detach` and `--wait` are left out.
    pub(crate) arguments: Vec<OsString>,
    /// Its working directory; `None`: that of this process.
    pub(crate) directory: Option<PathBuf>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Its standard output and error; `None`: it is in the background, see [`is_detached`].
    pub(crate) output: Option<(OwnedFd, OwnedFd)>,
}

/// A supervisor that was started, and has not reported yet.
#[derive(Debug)]
pub(crate) struct StartingRun {
    pub(super) name: RunName,
    pub(super) child: Child,
    pub(super) messages: MessageReceiver,
}

impl DetachedStart {
    /// Starts the supervisor, without waiting for it.
    ///
    /// # Errors
    ///
    /// See [`DetachError`].
    pub(crate) fn spawn(self) -> Result<StartingRun, DetachError> {
        let arguments = undetached(&self.arguments);
        let name = RunLine::read(&arguments).and_then(|line| line.name);
        let name = name.ok_or(DetachError::NoName)?;
        let program = own_program(&arguments).map_err(DetachError::NotStarted)?;
        let (sender, messages) = message_pair().map_err(DetachError::NotStarted)?;
        let sender = sender.into_descriptor();
        let mut environment = self.environment;
        environment.retain(|(name, _)| {
            [HANDOVER_FD[0], HANDOVER_FD[1], DETACHED, START_FD].iter().all(|own| name != own)
        });
        environment.push((START_FD.into(), sender.as_raw_fd().to_string().into()));
        if self.output.is_none() {
            environment.push((DETACHED.into(), "1".into()));
        }
        let command = DetachedCommand {
            program,
            arguments,
            environment,
            directory: self.directory,
            output: self.output,
            passed: Some(sender),
        };
        let child = command.spawn().map_err(DetachError::NotStarted)?;
        Ok(StartingRun { name, child, messages })
    }
}

/// The file of this program. Without `/proc` it is searched as a shell does.
fn own_program(arguments: &[OsString]) -> io::Result<PathBuf> {
    env::current_exe().or_else(|error| {
        let name = arguments.first().map_or(OsStr::new(""), OsString::as_os_str);
        find_in_path(name, env::var_os("PATH").as_deref(), None).ok_or(error)
    })
}

impl StartingRun {
    /// The pid of the supervisor.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end of a supervisor that ends. `None`: this process cannot know it.
    pub(crate) fn wait_for_end(&mut self) -> Option<ExitStatus> {
        self.child.wait().ok()
    }

    /// Waits until the run has begun. Returns the workers of a killed supervisor that it takes over.
    ///
    /// # Errors
    ///
    /// [`DetachError::Refused`], [`DetachError::Ended`], [`DetachError::NotStarted`].
    pub(crate) fn until_begun(
        &mut self,
        progress: &mut dyn FnMut(DetachProgress<'_>),
    ) -> Result<Vec<i32>, DetachError> {
        loop {
            match receive(&self.messages) {
                Some(StartMessage::Begun(taken_over)) => return Ok(taken_over),
                Some(StartMessage::Line(line)) => progress(DetachProgress::Line(&line)),
                Some(StartMessage::Failed(failure)) => {
                    // Its files are gone when it has ended.
                    let _ = self.child.wait();
                    return Err(DetachError::Refused(failure));
                }
                None => {
                    return Err(match self.child.wait() {
                        Ok(status) => DetachError::Ended(status),
                        Err(error) => DetachError::NotStarted(error),
                    });
                }
            }
        }
    }
}
