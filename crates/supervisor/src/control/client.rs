//! Asking supervisors: what the verbs of a named run do.

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
use super::record::RunRecord;

/// How long a supervisor may take to hear of a request, and to say how things are.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How many supervisors are asked at once.
const MAX_THREADS: usize = 16;

/// Why something was not done.
#[derive(Debug)]
pub enum ClientError {
    /// There is no run of this name; there are these.
    NoSuchRun(Vec<RunName>),
    /// Its supervisor was killed.
    SupervisorDead(DeadSupervisor),
    /// It could not be reached.
    Unreachable(ConnectError),
    /// It does not answer: its pid.
    NoAnswer(i32),
    /// It ended while we waited: its pid.
    SupervisorEnded(i32),
    /// What it is asked has more bytes than it takes: so many, of at most so many.
    TooLong(usize, usize),
    /// It, or something in its place, says what is no message.
    Frame(i32, FrameError),
    /// It cannot, or will not.
    Failed { fault: FaultKind, error: String, hint: Option<String> },
}

/// What there is to say of a supervisor that was killed.
#[derive(Debug)]
pub struct DeadSupervisor {
    /// What it wrote down, if it could.
    pub record: Option<RunRecord>,
    /// Its workers that still run.
    pub running_workers: Vec<i32>,
}

/// The run of this name, and how things are with it.
pub type RunEntry = (RunName, Result<Box<RunStatus>, ClientError>);

/// Where runs are looked for. `runtime`: the value of XDG_RUNTIME_DIR.
pub struct Client {
    folders: Vec<PathBuf>,
    timeout: Duration,
}

impl Client {
    pub fn new(runtime: Option<OsString>) -> Self {
        let folders = run_files::folders(runtime.as_deref().map(Path::new));
        Self { folders, timeout: TIMEOUT }
    }

    /// Every named run of this user. That of a supervisor that ended meanwhile is left out.
    pub fn list(&self) -> Vec<RunEntry> {
        let names = run_files::list_names(&self.folders);
        let mut runs = Vec::with_capacity(names.len());
        for names in names.chunks(MAX_THREADS) {
            std::thread::scope(|scope| {
                let ask = |name: &RunName| self.status(name);
                let asked: Vec<_> =
                    names.iter().map(|name| (name, scope.spawn(move || ask(name)))).collect();
                for (name, thread) in asked {
                    if let Ok(answer) = thread.join() {
                        runs.push((name.clone(), answer));
                    }
                }
            });
        }
        runs.retain(|(_, answer)| !matches!(answer, Err(ClientError::NoSuchRun(_))));
        runs
    }

    /// How things are with this run.
    pub fn status(&self, name: &RunName) -> Result<Box<RunStatus>, ClientError> {
        let mut asking = self.send(name, ControlRequest::Status)?;
        match asking.next()? {
            ControlReply::Status(status) => Ok(status),
            other => Err(asking.unexpected(&other)),
        }
    }

    /// Has this run changed, and hears of each change until it is done. If we end before, it is done
    /// all the same.
    pub fn change(
        &self,
        name: &RunName,
        request: ControlRequest,
        hear: &mut dyn FnMut(&WorkerUpdate),
    ) -> Result<(), ClientError> {
        let replaces_itself = matches!(request, ControlRequest::Reexec { .. });
        let mut asking = self.send(name, request)?;
        // A worker may take as long as it likes to drain.
        asking.disable_timeout()?;
        loop {
            match asking.next() {
                Ok(ControlReply::Update(change)) => hear(&change),
                Ok(ControlReply::Done) => return Ok(()),
                Ok(other) => return Err(asking.unexpected(&other)),
                // Our connection ended with the program; the next one answers at the same door.
                Err(ClientError::SupervisorEnded(_)) if replaces_itself => {
                    return self.status(name).map(drop);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Says what is wanted, and waits until it was heard.
    fn send(&self, name: &RunName, request: ControlRequest) -> Result<Connection, ClientError> {
        let (stream, pid) = match run_files::connect_supervisor(name, &self.folders, self.timeout) {
            Some(SupervisorState::Alive { stream, pid }) => (stream, pid),
            Some(SupervisorState::Gone(record)) => {
                return Err(ClientError::SupervisorDead(dead_supervisor(record)));
            }
            Some(SupervisorState::Failed(why)) => return Err(ClientError::Unreachable(why)),
            None => return Err(ClientError::NoSuchRun(run_files::list_names(&self.folders))),
        };
        let mut asking = Connection { stream, pid };
        asking.send_request(&VersionedRequest { version: VERSION, request })?;
        match asking.next()? {
            ControlReply::Accepted => Ok(asking),
            other => Err(asking.unexpected(&other)),
        }
    }
}

/// Milliseconds since 1970.
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
    fn send_request(&mut self, asked: &VersionedRequest) -> Result<(), ClientError> {
        let bytes = codec::encode(asked, codec::MAX_REQUEST).map_err(|error| match error {
            FrameError::TooLong(bytes) => ClientError::TooLong(bytes, codec::MAX_REQUEST),
            error => ClientError::Frame(self.pid, error),
        })?;
        match self.stream.write_all(&bytes) {
            // It has said why before it closed.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|error| self.connection_error(error.into())),
        }
    }

    fn disable_timeout(&self) -> Result<(), ClientError> {
        self.stream.set_read_timeout(None).map_err(|error| self.connection_error(error.into()))
    }

    /// The next reply; an error if it is one.
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
