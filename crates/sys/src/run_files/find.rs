//! The client's side: listing names, and connecting to their supervisors.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use sameport_policy::model::name::RunName;

use super::{ENDED, ended_file, record_file, socket_address, socket_file};
use crate::private_dir;
use crate::private_dir::DirRefusal;
use crate::users::effective_uid;

/// The longest record that is read, in bytes.
const LONGEST_RECORD: u64 = 4 << 20;

/// The most entries of a directory that are read.
const ENTRY_LIMIT: usize = 10_000;

/// The result of connecting to a supervisor.
#[derive(Debug)]
pub enum SupervisorState {
    /// The supervisor listens.
    Alive {
        /// The connection, with the timeout for reads and writes.
        stream: UnixStream,
        /// The supervisor's process id.
        pid: i32,
    },
    /// The supervisor has ended without removing its files: its record, if it is readable.
    Gone(Option<Vec<u8>>),
    /// The supervisor lives, but the connection failed.
    Failed(ConnectError),
}

/// Why a connection to a living supervisor failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectError {
    /// The accept queue of the supervisor is full.
    Busy,
    /// The listening process belongs to this user id.
    OtherUser(u32),
    /// A system call failed.
    System(Errno),
}

impl From<Errno> for ConnectError {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

/// Connects to the supervisor of a name, in the first directory that has a living one. `timeout`
/// limits the connect and each later read and write. `None`: no directory has the name.
#[must_use]
pub fn connect_supervisor(
    name: &RunName,
    folders: &[PathBuf],
    timeout: Duration,
) -> Option<SupervisorState> {
    connect_supervisor_of(effective_uid(), name, folders, timeout)
}

/// [`connect_supervisor`] for the directories of this user.
#[must_use]
pub fn connect_supervisor_of(
    owner: u32,
    name: &RunName,
    folders: &[PathBuf],
    timeout: Duration,
) -> Option<SupervisorState> {
    let mut dead = None;
    for folder in folders.iter().filter_map(|folder| open(owner, folder)) {
        match connect(&folder, name, timeout, owner) {
            Ok((stream, pid)) => return Some(SupervisorState::Alive { stream, pid }),
            Err(ConnectError::System(Errno::NOENT)) => match record(&folder, name) {
                None => {}
                some => dead = dead.or(Some(SupervisorState::Gone(some))),
            },
            // The file exists, and no process listens.
            Err(ConnectError::System(Errno::CONNREFUSED)) => {
                dead = dead.or_else(|| Some(SupervisorState::Gone(record(&folder, name))));
            }
            Err(error) => return Some(SupervisorState::Failed(error)),
        }
    }
    dead
}

/// The names in these directories, sorted, each once. Skips directories that other users can change.
#[must_use]
pub fn list_names(folders: &[PathBuf]) -> Vec<RunName> {
    list_names_of(effective_uid(), folders)
}

/// [`list_names`] for the directories of this user.
#[must_use]
pub fn list_names_of(owner: u32, folders: &[PathBuf]) -> Vec<RunName> {
    let mut names: Vec<RunName> = folders
        .iter()
        .filter_map(|folder| Dir::read_from(open(owner, folder)?).ok())
        .flat_map(|entries| entries.flatten().take(ENTRY_LIMIT))
        .filter_map(|entry| {
            let file = entry.file_name().to_str().ok()?;
            file.strip_suffix(".sock").or_else(|| file.strip_suffix(".json"))?.parse().ok()
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn open(owner: u32, path: &Path) -> Option<OwnedFd> {
    private_dir::open_of(owner, path, false, |_| Ok::<(), DirRefusal>(())).ok()
}

/// Connects to the control socket in a directory, whose listener must be a process of `owner`.
pub(super) fn connect(
    folder: &OwnedFd,
    name: &RunName,
    timeout: Duration,
    owner: u32,
) -> Result<(UnixStream, i32), ConnectError> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    for direction in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&socket, direction, Some(timeout))?;
    }
    match rustix::net::connect(&socket, &socket_address(folder, &socket_file(name))?) {
        Err(Errno::AGAIN) => return Err(ConnectError::Busy),
        other => other?,
    }
    // SO_PEERCRED describes the process that called `listen`; an `exec` does not change its pid.
    let peer = socket_peercred(&socket)?;
    if peer.uid.as_raw() != owner {
        return Err(ConnectError::OtherUser(peer.uid.as_raw()));
    }
    Ok((UnixStream::from(socket), peer.pid.as_raw_nonzero().get()))
}

/// The report about the end of the last run of a name: the newest one in these directories.
#[must_use]
pub fn read_ended(name: &RunName, folders: &[PathBuf]) -> Option<Vec<u8>> {
    read_ended_of(effective_uid(), name, folders)
}

/// [`read_ended`] for the directories of this user.
#[must_use]
pub fn read_ended_of(owner: u32, name: &RunName, folders: &[PathBuf]) -> Option<Vec<u8>> {
    let file = ended_file(name);
    let mut found: Vec<_> = folders
        .iter()
        .filter_map(|folder| open(owner, folder))
        .filter_map(|folder| Some((changed_at(&folder, &file)?, read_file(&folder, &file)?)))
        .collect();
    found.sort();
    found.pop().map(|(_, bytes)| bytes)
}

/// The reports about ended runs in a directory, the oldest first: when each was written, and its name.
pub(super) fn list_ended(folder: &OwnedFd) -> Option<Vec<((i64, i64), String)>> {
    let entries = Dir::read_from(folder).ok()?;
    let mut reports: Vec<_> = entries
        .flatten()
        .take(ENTRY_LIMIT)
        .filter_map(|entry| {
            let file = entry.file_name().to_str().ok()?.to_owned();
            let is_report = file.strip_suffix(ENDED)?.parse::<RunName>().is_ok();
            let written = changed_at(folder, &file)?;
            is_report.then_some((written, file))
        })
        .collect();
    reports.sort();
    Some(reports)
}

/// When a file was written: seconds and nanoseconds since 1970.
fn changed_at(folder: &OwnedFd, file: &str) -> Option<(i64, i64)> {
    let stat = rustix::fs::statat(folder, file, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some((stat.st_mtime, i64::try_from(stat.st_mtime_nsec).ok()?))
}

/// The record of a supervisor.
fn record(folder: &OwnedFd, name: &RunName) -> Option<Vec<u8>> {
    read_file(folder, &record_file(name))
}

/// The content of a regular file.
pub(super) fn read_file(folder: &OwnedFd, file: &str) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::openat(folder, file, flags, Mode::empty()).ok()?;
    let is_file = FileType::from_raw_mode(rustix::fs::fstat(&file).ok()?.st_mode).is_file();
    let mut bytes = Vec::new();
    let read = std::fs::File::from(file).take(LONGEST_RECORD).read_to_end(&mut bytes);
    (is_file && read.is_ok()).then_some(bytes)
}
