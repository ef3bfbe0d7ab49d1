//! Asking supervisors: what the verbs of a named run do.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sameport_policy::model::name::Name;
use sameport_sys::run_files;
use sameport_sys::run_files::{ConnectError, Reached};

use super::codec;
use super::codec::FrameError;
use super::protocol::{Asked, Change, Fault, Reply, Request, Status, VERSION};
use super::record::Record;

/// How long a supervisor may take to hear of a request, and to say how things are.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many supervisors are asked at once.
const AT_ONCE: usize = 16;

/// Why something was not done.
#[derive(Debug)]
pub enum Error {
    /// There is no run of this name; there are these.
    NoSuchRun(Vec<Name>),
    /// Its supervisor was killed.
    Gone(Gone),
    /// It could not be reached.
    Unreachable(ConnectError),
    /// It does not answer: its pid.
    Silent(i32),
    /// It ended while we waited: its pid.
    Ended(i32),
    /// What it is asked has more bytes than it takes: so many, of at most so many.
    TooLong(usize, usize),
    /// It, or something in its place, says what is no message.
    Frame(i32, FrameError),
    /// It cannot, or will not.
    Failed { fault: Fault, error: String, hint: Option<String> },
}

/// What there is to say of a supervisor that was killed.
#[derive(Debug)]
pub struct Gone {
    /// What it wrote down, if it could.
    pub record: Option<Record>,
    /// Its workers that still run.
    pub running: Vec<i32>,
}

/// The run of this name, and how things are with it.
pub type Run = (Name, Result<Box<Status>, Error>);

/// Where runs are looked for. `runtime`: the value of XDG_RUNTIME_DIR.
pub struct Runs {
    folders: Vec<PathBuf>,
    patience: Duration,
}

impl Runs {
    pub fn new(runtime: Option<OsString>) -> Self {
        let folders = run_files::folders(runtime.as_deref().map(Path::new));
        Self { folders, patience: PATIENCE }
    }

    /// Every named run of this user. That of a supervisor that ended meanwhile is left out.
    pub fn all(&self) -> Vec<Run> {
        let names = run_files::names(&self.folders);
        let mut runs = Vec::with_capacity(names.len());
        for names in names.chunks(AT_ONCE) {
            std::thread::scope(|scope| {
                let ask = |name: &Name| self.status(name);
                let asked: Vec<_> =
                    names.iter().map(|name| (name, scope.spawn(move || ask(name)))).collect();
                for (name, thread) in asked {
                    if let Ok(answer) = thread.join() {
                        runs.push((name.clone(), answer));
                    }
                }
            });
        }
        runs.retain(|(_, answer)| !matches!(answer, Err(Error::NoSuchRun(_))));
        runs
    }

    /// How things are with this run.
    pub fn status(&self, name: &Name) -> Result<Box<Status>, Error> {
        let mut asking = self.ask(name, Request::Status)?;
        match asking.next()? {
            Reply::Status(status) => Ok(status),
            other => Err(asking.nonsense(&other)),
        }
    }

    /// Has this run changed, and hears of each change until it is done. If we end before, it is done
    /// all the same.
    pub fn change(
        &self,
        name: &Name,
        request: Request,
        hear: &mut dyn FnMut(&Change),
    ) -> Result<(), Error> {
        let replaces_itself = matches!(request, Request::Reexec { .. });
        let mut asking = self.ask(name, request)?;
        // A worker may take as long as it likes to drain.
        asking.wait_for_ever()?;
        loop {
            match asking.next() {
                Ok(Reply::Change(change)) => hear(&change),
                Ok(Reply::Done) => return Ok(()),
                Ok(other) => return Err(asking.nonsense(&other)),
                // Our connection ended with the program; the next one answers at the same door.
                Err(Error::Ended(_)) if replaces_itself => return self.status(name).map(drop),
                Err(error) => return Err(error),
            }
        }
    }

    /// Says what is wanted, and waits until it was heard.
    fn ask(&self, name: &Name, request: Request) -> Result<Asking, Error> {
        let (stream, pid) = match run_files::reach(name, &self.folders, self.patience) {
            Some(Reached::Alive { stream, pid }) => (stream, pid),
            Some(Reached::Gone(record)) => return Err(Error::Gone(gone(record))),
            Some(Reached::Failed(why)) => return Err(Error::Unreachable(why)),
            None => return Err(Error::NoSuchRun(run_files::names(&self.folders))),
        };
        let mut asking = Asking { stream, pid };
        asking.say(&Asked { version: VERSION, request })?;
        match asking.next()? {
            Reply::Heard => Ok(asking),
            other => Err(asking.nonsense(&other)),
        }
    }
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn gone(record: Option<Vec<u8>>) -> Gone {
    let record: Option<Record> = record.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let running = record.as_ref().map(Record::running).unwrap_or_default();
    Gone { record, running }
}

/// A connection to a supervisor.
struct Asking {
    stream: std::os::unix::net::UnixStream,
    pid: i32,
}

impl Asking {
    fn say(&mut self, asked: &Asked) -> Result<(), Error> {
        let bytes = codec::framed(asked, codec::LONGEST_REQUEST).map_err(|error| match error {
            FrameError::TooLong(bytes) => Error::TooLong(bytes, codec::LONGEST_REQUEST),
            error => Error::Frame(self.pid, error),
        })?;
        match self.stream.write_all(&bytes) {
            // It has said why before it closed.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|error| self.broken(error.into())),
        }
    }

    fn wait_for_ever(&self) -> Result<(), Error> {
        self.stream.set_read_timeout(None).map_err(|error| self.broken(error.into()))
    }

    /// The next reply; an error if it is one.
    fn next(&mut self) -> Result<Reply, Error> {
        match codec::read(&mut self.stream, codec::LONGEST_REPLY) {
            Ok(Some(Reply::Failed { fault, error, hint })) => {
                Err(Error::Failed { fault, error, hint })
            }
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(Error::Ended(self.pid)),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn broken(&self, error: FrameError) -> Error {
        match error {
            FrameError::Read(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                Error::Silent(self.pid)
            }
            FrameError::Cut => Error::Ended(self.pid),
            error => Error::Frame(self.pid, error),
        }
    }

    fn nonsense(&self, reply: &Reply) -> Error {
        Error::Frame(self.pid, FrameError::Garbage(format!("{reply:?} out of turn")))
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
