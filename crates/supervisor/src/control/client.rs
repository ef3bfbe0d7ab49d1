//! The client of control sockets, for the verbs of named runs.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sameport_policy::model::name::RunName;
use sameport_policy::traffic::TrafficStatus;
use sameport_sys::run_files::{SeenSupervisor, SupervisorState};
use sameport_sys::{guarded, run_files, users};

pub use super::client_error::{ClientError, DeadSupervisor};
use super::connection::Connection;
use super::protocol::{
    ControlReply, ControlRequest, FaultKind, Reconfigure, RunStatus, TrafficPort, WorkerUpdate,
};
use super::record::RunRecord;

/// Time limit for a supervisor to accept a request and to send its status.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The same for a supervisor of another user, which may be slow on purpose.
const FOREIGN_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit for a run to become quiet before its options change, and for a change to be undone.
const SETTLING: Duration = Duration::from_secs(60);

/// Interval of attempts meanwhile.
const INTERVAL: Duration = Duration::from_millis(50);

/// Maximum number of supervisors to query in parallel.
const MAX_THREADS: usize = 16;

/// A named run.
#[derive(Debug)]
pub struct RunEntry {
    /// Its name.
    pub name: RunName,
    /// The user that it belongs to: the login name, or the user id.
    pub user: String,
    /// Its status.
    pub answer: Result<Box<RunStatus>, ClientError>,
}

/// Sends requests to named runs of one user.
#[derive(Debug, Clone)]
pub struct Client {
    folders: Vec<PathBuf>,
    timeout: Duration,
    /// The user, if the runs are not searched in the directories of the caller alone.
    owner: Option<u32>,
}

impl Client {
    /// `runtime`: see `run_files::runtime_dir`.
    pub fn new(runtime: Option<OsString>) -> Self {
        let folders = run_files::folders(runtime.as_deref().map(Path::new));
        Self { folders, timeout: TIMEOUT, owner: None }
    }

    /// `uid`: the user whose runs these are. They are searched in the usual directories and among the
    /// processes, which only root and the user itself can see.
    pub fn of_user(uid: u32) -> Self {
        Self { folders: run_files::folders_of(uid), timeout: FOREIGN_TIMEOUT, owner: Some(uid) }
    }

    /// Waits no longer than this for a supervisor, and no longer than the usual limit.
    #[must_use]
    pub fn limited_to(self, limit: Duration) -> Self {
        Self { timeout: self.timeout.min(limit), ..self }
    }

    /// The user that the runs belong to: the login name, or the user id.
    pub fn user(&self) -> String {
        user_text(self.uid())
    }

    fn uid(&self) -> u32 {
        self.owner.unwrap_or_else(users::effective_uid)
    }

    /// All named runs that this user can see, of every user. The files of other users are read for at most
    /// the time limit of the client, for each user.
    pub fn list_all(&self) -> Vec<RunEntry> {
        let mut all = self.list();
        let own = self.uid();
        if own == 0 {
            let others = run_files::users_with_folders().into_iter().filter(|uid| *uid != own);
            for uid in others {
                let client = Self::of_user(uid).limited_to(self.timeout);
                let limit = self.timeout;
                all.extend(guarded::within(limit, move || client.list()).unwrap_or_default());
            }
        }
        let mut seen = run_files::list_supervisors(None);
        let is_listed = |it: &SeenSupervisor| {
            all.iter().any(|run| run.name == it.name && run.user == user_text(it.uid))
        };
        seen.retain(|it| !is_listed(it));
        all.extend(self.ask_seen(&seen));
        all.sort_by(|one, other| (&one.user, &one.name).cmp(&(&other.user, &other.name)));
        all
    }

    /// The runs of these supervisors. Of another user, whose supervisor may not answer on purpose, the others
    /// are not asked then.
    fn ask_seen(&self, seen: &[SeenSupervisor]) -> Vec<RunEntry> {
        let mut all = Vec::with_capacity(seen.len());
        let mut slow = HashSet::new();
        for seen in seen.chunks(MAX_THREADS) {
            let ask = |it: &SeenSupervisor| match slow.contains(&it.uid) {
                true => Err(ClientError::NoAnswer(it.pid)),
                false => status_of(it, self.timeout.min(FOREIGN_TIMEOUT)),
            };
            let answers: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = seen.iter().map(|it| scope.spawn(|| ask(it))).collect();
                seen.iter().zip(threads.into_iter().map(|it| it.join().ok())).collect()
            });
            for (it, answer) in answers {
                let Some(answer) = answer else { continue };
                if matches!(answer, Err(ClientError::NoAnswer(_))) && it.uid != self.uid() {
                    slow.insert(it.uid);
                }
                let (name, user) = (it.name.clone(), user_text(it.uid));
                all.push(RunEntry { name, user, answer: self.owned(it.uid, answer) });
            }
        }
        all
    }

    /// An error of a run of another user says so: nothing that this user wrote is acted on.
    fn owned<T>(&self, uid: u32, result: Result<T, ClientError>) -> Result<T, ClientError> {
        result.map_err(|error| match uid == users::effective_uid() {
            true => error,
            false => ClientError::OfUser(user_text(uid), Box::new(error)),
        })
    }

    /// All named runs of this user in the directories of the client. Leaves out a run that ended meanwhile.
    pub fn list(&self) -> Vec<RunEntry> {
        let names = run_files::list_names_of(self.uid(), &self.folders);
        let user = self.user();
        let mut runs = Vec::with_capacity(names.len());
        for names in names.chunks(MAX_THREADS) {
            std::thread::scope(|scope| {
                let ask = |name: &RunName| self.status(name);
                let threads: Vec<_> =
                    names.iter().map(|name| (name, scope.spawn(move || ask(name)))).collect();
                for (name, thread) in threads {
                    if let Ok(answer) = thread.join() {
                        runs.push(RunEntry { name: name.clone(), user: user.clone(), answer });
                    }
                }
            });
        }
        runs.retain(|run| !run.answer.as_ref().is_err_and(ClientError::is_over));
        runs
    }

    /// The status of a run; the report about its end if it has ended.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn status(&self, name: &RunName) -> Result<Box<RunStatus>, ClientError> {
        let answer = self.send(name, ControlRequest::Status).and_then(read_status);
        self.owned(self.uid(), answer)
    }

    /// The traffic of a port of a run.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]. A supervisor of an earlier build refuses the request.
    pub fn traffic(
        &self,
        name: &RunName,
        port: TrafficPort,
    ) -> Result<Box<TrafficStatus>, ClientError> {
        let request = ControlRequest::Traffic { port };
        let answer =
            self.send(name, request).and_then(|mut connection| match connection.next()? {
                ControlReply::Traffic(traffic) => Ok(traffic),
                other => Err(connection.unexpected(&other)),
            });
        self.owned(self.uid(), answer)
    }

    /// The names of all runs of this user. Reaches no supervisor.
    pub fn names(&self) -> Vec<RunName> {
        run_files::list_names_of(self.uid(), &self.folders)
    }

    /// A run with its status.
    pub fn entry(&self, name: &RunName) -> RunEntry {
        RunEntry { name: name.clone(), user: self.user(), answer: self.status(name) }
    }

    /// The report about the end of a run that does not exist.
    fn ended(&self, name: &RunName) -> ClientError {
        let report = run_files::read_ended_of(self.uid(), name, &self.folders);
        let report = report.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(ended) = report {
            return ClientError::Ended(Box::new(ended));
        }
        let users = match self.owner {
            None => users_of(name),
            Some(_) => Vec::new(),
        };
        match users {
            none if none.is_empty() => {
                ClientError::NoSuchRun(run_files::list_names_of(self.uid(), &self.folders))
            }
            users => ClientError::Elsewhere(users),
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
        self.owned(self.uid(), self.try_change(name, request, hear))
    }

    fn try_change(
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
                    return self.send(name, ControlRequest::Status).and_then(read_status).map(drop);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets a run have other options, and waits until its workers have them. `hear` gets the updates.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]. The run has the options of before.
    pub fn reconfigure(
        &self,
        name: &RunName,
        request: Reconfigure,
        hear: &mut dyn FnMut(&WorkerUpdate),
    ) -> Result<(), ClientError> {
        self.owned(self.uid(), self.try_reconfigure(name, request, hear))
    }

    fn try_reconfigure(
        &self,
        name: &RunName,
        request: Reconfigure,
        hear: &mut dyn FnMut(&WorkerUpdate),
    ) -> Result<(), ClientError> {
        let arguments = request.arguments.clone();
        let until = Instant::now() + SETTLING;
        loop {
            let request = ControlRequest::Reconfigure(request.clone());
            match self.try_change(name, request, hear) {
                // `exec` closed the connection; the next program listens on the same socket.
                Ok(()) | Err(ClientError::SupervisorEnded(_)) => break,
                // Workers drain still, or start.
                Err(ClientError::Failed { fault: FaultKind::Busy, .. })
                    if Instant::now() < until =>
                {
                    std::thread::sleep(INTERVAL);
                }
                Err(error) => return Err(error),
            }
        }
        let failure = match self.try_change(name, ControlRequest::Follow, hear) {
            Ok(()) | Err(ClientError::SupervisorEnded(_)) => None,
            Err(error @ ClientError::Failed { .. }) => Some(error),
            Err(error) => return Err(error),
        };
        loop {
            let status = self.send(name, ControlRequest::Status).and_then(read_status)?;
            let start = status.treatment.start.unwrap_or_default();
            let Some(error) = start.undone else { return failure.map_or(Ok(()), Err) };
            // The failure is reported when the options of before hold again.
            if start.arguments != arguments || Instant::now() >= until {
                let hint = "`sameport status` shows the workers that serve".to_owned();
                let undone =
                    ClientError::Failed { fault: FaultKind::Other, error, hint: Some(hint) };
                return Err(failure.unwrap_or(undone));
            }
            std::thread::sleep(INTERVAL);
        }
    }

    /// Sends a request, and waits until the supervisor has accepted it.
    fn send(&self, name: &RunName, request: ControlRequest) -> Result<Connection, ClientError> {
        let (stream, pid) = match self.connect(name) {
            Some(SupervisorState::Alive { stream, pid }) => (stream, pid),
            Some(SupervisorState::Gone(record)) => {
                return Err(ClientError::SupervisorDead(Box::new(dead_supervisor(record))));
            }
            Some(SupervisorState::Failed(why)) => return Err(ClientError::Unreachable(why)),
            None => return Err(self.ended(name)),
        };
        Connection::new(stream, pid, self.timeout).accepted(request)
    }

    /// Connects by the directories, and if these have no such name, by the process of the supervisor.
    fn connect(&self, name: &RunName) -> Option<SupervisorState> {
        let by_folder =
            run_files::connect_supervisor_of(self.uid(), name, &self.folders, self.timeout);
        if by_folder.is_some() || self.owner.is_none() {
            return by_folder;
        }
        let seen =
            run_files::list_supervisors(self.owner).into_iter().find(|it| it.name == *name)?;
        Some(match seen.connect(self.timeout) {
            Ok(stream) => SupervisorState::Alive { stream, pid: seen.pid },
            Err(error) => SupervisorState::Failed(error),
        })
    }
}

/// The users who have a run of this name that this process can see.
pub fn users_of(name: &RunName) -> Vec<String> {
    let seen = run_files::list_supervisors(None);
    // Sorted by user.
    let users = seen.into_iter().filter(|it| it.name == *name).map(|it| user_text(it.uid));
    let mut users: Vec<_> = users.collect();
    users.dedup();
    users
}

fn read_status(mut connection: Connection) -> Result<Box<RunStatus>, ClientError> {
    match connection.next()? {
        ControlReply::Status(status) => Ok(status),
        other => Err(connection.unexpected(&other)),
    }
}

/// The status of a run that was found by its process.
fn status_of(seen: &SeenSupervisor, limit: Duration) -> Result<Box<RunStatus>, ClientError> {
    let stream = seen.connect(limit).map_err(ClientError::Unreachable)?;
    let connection = Connection::new(stream, seen.pid, limit);
    connection.accepted(ControlRequest::Status).and_then(read_status)
}

/// The login name, or the user id.
fn user_text(uid: u32) -> String {
    users::user_name(uid).unwrap_or_else(|| uid.to_string())
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

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
