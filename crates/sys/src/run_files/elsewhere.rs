//! Supervisors in `/proc`: those of other users, of other directories and of other mount namespaces
//! (`PrivateTmp=`, `RootDirectory=`, a container).
//!
//! A supervisor keeps the directory of its files open. `/proc/PID/fd` leads to that directory itself, whatever
//! its path means here. The socket in it must belong to that process (SO_PEERCRED), so that another user's
//! files can pass for nothing but a run of that user. Needs permission to ptrace the process, as root has.

use std::collections::HashSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sameport_policy::membership::run_line::RunLine;
use sameport_policy::model::name::RunName;

use super::find::{ConnectError, connect};
use super::lock_file;
use crate::guarded;
use crate::proc::command_line;
use crate::proc::details::field;

/// Time limit of reading the command line of one process, which it can delay by its memory.
const READ_LIMIT: Duration = Duration::from_secs(1);

/// The most supervisors of one user that are listed.
const MOST: usize = 256;

/// The supervisor of a named run.
#[derive(Debug)]
pub struct SeenSupervisor {
    /// The name of the run.
    pub name: RunName,
    /// The effective user id.
    pub uid: u32,
    /// The process id.
    pub pid: i32,
    folder: OwnedFd,
}

impl SeenSupervisor {
    /// Connects to the control socket. `timeout` limits the connect and each later read and write.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]. `System(ESRCH)`: another process listens there.
    pub fn connect(&self, timeout: Duration) -> Result<UnixStream, ConnectError> {
        match connect(&self.folder, &self.name, timeout, self.uid)? {
            (stream, pid) if pid == self.pid => Ok(stream),
            _ => Err(ConnectError::System(Errno::SRCH)),
        }
    }
}

/// The supervisors that this process can see, of one user or of all, at most 256 of each user.
#[must_use]
pub fn list_supervisors(of: Option<u32>) -> Vec<SeenSupervisor> {
    let mut found: Vec<SeenSupervisor> = Vec::new();
    // A process of these users has delayed the scan.
    let mut slow = HashSet::new();
    for pid in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = pid.file_name().to_str().and_then(|pid| pid.parse::<i32>().ok()) else {
            continue;
        };
        let Some(uid) = effective_uid(pid).filter(|uid| of.is_none_or(|of| of == *uid)) else {
            continue;
        };
        let of_user = found.iter().filter(|it| it.uid == uid).count();
        if slow.contains(&uid) || of_user >= MOST {
            continue;
        }
        match guarded::within(READ_LIMIT, move || supervisor(pid)) {
            Some(Some((name, folder))) => found.push(SeenSupervisor { name, uid, pid, folder }),
            Some(None) => {}
            None => drop(slow.insert(uid)),
        }
    }
    found.sort_by(|one, other| (one.uid, &one.name).cmp(&(other.uid, &other.name)));
    found
}

/// The users with a directory for runs in `/run/user`, `/tmp` or `/dev/shm`.
#[must_use]
pub fn users_with_folders() -> Vec<u32> {
    let names = |folder: &str| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>()
    };
    let runtime = names("/run/user").into_iter().filter_map(|name| name.parse().ok());
    let temporary = names("/tmp").into_iter().chain(names("/dev/shm"));
    let temporary = temporary.filter_map(|name| name.strip_prefix("sameport-")?.parse().ok());
    let mut users: Vec<u32> = runtime.chain(temporary).collect();
    users.sort_unstable();
    users.dedup();
    users
}

fn effective_uid(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    field(&status, "Uid:", 1)?.parse().ok()
}

/// The name of the run that this process supervises, and the directory of its files.
fn supervisor(pid: i32) -> Option<(RunName, OwnedFd)> {
    let name = RunLine::read(&command_line(pid)?)?.name?;
    let descriptors: Vec<(PathBuf, PathBuf)> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .flatten()
        .filter_map(|entry| Some((entry.path(), fs::read_link(entry.path()).ok()?)))
        .collect();
    let lock = lock_file(&name);
    let is_lock = |target: &&PathBuf| target.file_name().is_some_and(|file| *file == *lock);
    let path = descriptors.iter().map(|(_, target)| target).find(is_lock)?.parent()?;
    let (descriptor, _) = descriptors.iter().find(|(_, target)| target == path)?;
    Some((name, open(descriptor).ok()?))
}

/// The directory behind an entry of `/proc/PID/fd`.
fn open(descriptor: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(descriptor, flags, Mode::empty())
}
