//! The client of control sockets, for the verbs of named runs.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sameport_policy::model::name::RunName;
use sameport_sys::run_files;
use sameport_sys::run_files::{ConnectError, SupervisorState};

use super::codec;
use super::codec::FrameError;
use super::protocol::{
    ControlReply, ControlRequest, FaultKind, RunStatus, VERSION, VersionedRequest, WorkerUpdate,
};
use super::record::{EndedRun, RunRecord};

/// Time limit for a supervisor to accept a request and to send its status.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of supervisors to query in parallel.
const MAX_THREADS: usize = 16;

/// Why a request failed.
#[derive(Debug)]
pub enum ClientError {
    /// No run has this name; the names that exist.
    NoSuchRun(Vec<RunName>),
    /// The run has ended.
    Ended(Box<EndedRun>),
    /// Its supervisor was killed.
    SupervisorDead(Box<DeadSupervisor>),
    /// The control socket cannot be connected.
    Unreachable(ConnectError),
    /// The supervisor with this pid does not answer.
    NoAnswer(i32),
    /// The supervisor with this pid ended before its last reply.
    SupervisorEnded(i32),
    /// The request exceeds the maximum: its size and the maximum, in bytes.
    TooLong(usize, usize),
    /// The process with this pid sent an invalid message.
    Frame(i32, FrameError),
    /// The supervisor refused or could not execute the request.
    Failed {
        /// The kind, for the exit code.
        fault: FaultKind,
        /// The message.
        error: String,
        /// The next step.
        hint: Option<String>,
    },
}

/// A supervisor that was killed.
#[derive(Debug)]
pub struct DeadSupervisor {
    /// Its record, if there is one.
    pub record: Option<RunRecord>,
    /// First processes of its workers that still run.
    pub running_workers: Vec<i32>,
}

/// The name of a run, and its status.
pub type RunEntry = (RunName, Result<Box<RunStatus>, ClientError>);

/// Sends requests to named runs of this user.
pub struct Client {
    folders: Vec<PathBuf>,
    timeout: Duration,
}

impl Client {
    /// `runtime`: the value of XDG_RUNTIME_DIR.
    pub fn new(runtime: Option<OsString>) -> Self {
        let folders = run_files::folders(runtime.as_deref().map(Path::new));
        Self { folders, timeout: TIMEOUT }
    }

    /// All named runs of this user. Leaves out a run that ended meanwhile.
    pub fn list(&self) -> Vec<RunEntry> {
        let names = run_files::list_names(&self.folders);
        let mut runs = Vec::with_capacity(names.len());
        for names in names.chunks(MAX_THREADS) {
            std::thread::scope(|scope| {
                let ask = |name: &RunName| self.status(name);
                let threads: Vec<_> =
                    names.iter().map(|name| (name, scope.spawn(move || ask(name)))).collect();
                for (name, thread) in threads {
                    if let Ok(answer) = thread.join() {
                        runs.push((name.clone(), answer));
                    }
                }
            });
        }
        let is_over = |error: &ClientError| {
            matches!(error, ClientError::NoSuchRun(_) | ClientError::Ended(_))
        };
        runs.retain(|(_, answer)| !answer.as_ref().is_err_and(is_over));
        runs
    }

    /// The status of a run; the report about its end if it has ended.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn status(&self, name: &RunName) -> Result<Box<RunStatus>, ClientError> {
        let mut connection = self.send(name, ControlRequest::Status)?;
        match connection.next()? {
            ControlReply::Status(status) => Ok(status),
            other => Err(connection.unexpected(&other)),
        }
    }

    /// The report about the end of a run that does not exist.
    fn ended(&self, name: &RunName) -> ClientError {
        let report = run_files::read_ended(name, &self.folders);
        let report = report.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match report {
            Some(ended) => ClientError::Ended(Box::new(ended)),
            None => ClientError::NoSuchRun(run_files::list_names(&self.folders)),
        }
    }

    /// Sends a request and waits until it is executed. `hear` gets the updates. The supervisor executes
    /// the request even if this process ends.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn change(
        &self,
        name: &RunName,
        request: ControlRequest,
        hear: &mut dyn FnMut(&WorkerUpdate),
    ) -> Result<(), ClientError> {
        let replaces_itself = matches!(request, ControlRequest::Reexec { .. });
        let mut connection = self.send(name, request)?;
        // A drain has no time limit here.
        connection.disable_timeout()?;
        loop {
            match connection.next() {
                Ok(ControlReply::Update(change)) => hear(&change),
                Ok(ControlReply::Done) => return Ok(()),
                Ok(other) => return Err(connection.unexpected(&other)),
                // `exec` closed the connection; the next program listens on the same socket.
                Err(ClientError::SupervisorEnded(_)) if replaces_itself => {
                    return self.status(name).map(drop);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a request, and waits until the supervisor has accepted it.
    fn send(&self, name: &RunName, request: ControlRequest) -> Result<Connection, ClientError> {
        let (stream, pid) = match run_files::connect_supervisor(name, &self.folders, self.timeout) {
            Some(SupervisorState::Alive { stream, pid }) => (stream, pid),
            Some(SupervisorState::Gone(record)) => {
                return Err(ClientError::SupervisorDead(Box::new(dead_supervisor(record))));
            }
            Some(SupervisorState::Failed(why)) => return Err(ClientError::Unreachable(why)),
            None => return Err(self.ended(name)),
        };
        let mut connection = Connection { stream, pid };
        connection.send_request(&VersionedRequest { version: VERSION, request })?;
        match connection.next()? {
            ControlReply::Accepted => Ok(connection),
            other => Err(connection.unexpected(&other)),
        }
    }
}

/// The time, in milliseconds since 1970.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn dead_supervisor(record: Option<Vec<u8>>) -> DeadSupervisor {
    let record: Option<RunRecord> = record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let running = record.as_ref().map(RunRecord::running_workers).unwrap_or_default();
    DeadSupervisor { record, running_workers: running }
}

/// A connection to a supervisor.
struct Connection {
    stream: std::os::unix::net::UnixStream,
    pid: i32,
}

impl Connection {
    fn send_request(&mut self, request: &VersionedRequest) -> Result<(), ClientError> {
        let bytes = codec::encode(request, codec::MAX_REQUEST).map_err(|error| match error {
            FrameError::TooLong(bytes) => ClientError::TooLong(bytes, codec::MAX_REQUEST),
            error => ClientError::Frame(self.pid, error),
        })?;
        match self.stream.write_all(&bytes) {
            // The supervisor closed after it sent its reply.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|error| self.connection_error(error.into())),
        }
    }

    fn disable_timeout(&self) -> Result<(), ClientError> {
        self.stream.set_read_timeout(None).map_err(|error| self.connection_error(error.into()))
    }

    /// Reads the next reply. [`ControlReply::Failed`] becomes an error.
    fn next(&mut self) -> Result<ControlReply, ClientError> {
        match codec::read(&mut self.stream, codec::MAX_REPLY) {
            Ok(Some(ControlReply::Failed { fault, error, hint })) => {
                Err(ClientError::Failed { fault, error, hint })
            }
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(ClientError::SupervisorEnded(self.pid)),
            Err(error) => Err(self.connection_error(error)),
        }
    }

    fn connection_error(&self, error: FrameError) -> ClientError {
        match error {
            FrameError::Read(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                ClientError::NoAnswer(self.pid)
            }
            FrameError::Incomplete => ClientError::SupervisorEnded(self.pid),
            error => ClientError::Frame(self.pid, error),
        }
    }

    fn unexpected(&self, reply: &ControlReply) -> ClientError {
        ClientError::Frame(self.pid, FrameError::Invalid(format!("{reply:?} out of turn")))
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
