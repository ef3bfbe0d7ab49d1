//! The supervisor's side: claiming a name, listening, writing the record.

use std::fmt;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use sameport_policy::model::name::RunName;

use super::find::{list_ended, read_file};
use super::{
    ENDED, SupervisorState, connect_supervisor, ended_file, lock_file, record_file, socket_address,
    socket_file, unfinished,
};
use crate::fd::inherit;
use crate::private_dir;
use crate::private_dir::{DirRefusal, PrivateDirError};
use crate::socket::unix::refuse_descriptors;

/// A claimed name. No other supervisor of this user can claim it until this is dropped, which removes
/// its files.
#[derive(Debug)]
pub struct NameClaim {
    name: RunName,
    folder: OwnedFd,
    path: PathBuf,
    lock: OwnedFd,
    /// Whether the record stays at the end.
    leaves_record: bool,
}

/// The files of the last run of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EarlierRun {
    /// The record, if its supervisor was killed.
    pub record: Option<Vec<u8>>,
    /// The report about its end, if it ended in order.
    pub ended: Option<Vec<u8>>,
}

/// Why a name could not be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimError {
    /// A living supervisor has the name: its pid, if known.
    InUse(Option<i32>),
    /// No directory is suitable.
    Dir(PrivateDirError),
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(Some(pid)) => write!(f, "pid {pid} has it"),
            Self::InUse(None) => f.write_str("another supervisor has it"),
            Self::Dir(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ClaimError {}

/// A claim as it passes through an `exec` of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InheritedClaim {
    /// The descriptor of the directory.
    pub folder: RawFd,
    /// The descriptor that holds the lock.
    pub lock: RawFd,
    /// The path of the directory.
    pub path: PathBuf,
}

/// Attempts if other supervisors remove the lock or the directory at their exit meanwhile.
const ATTEMPTS: u32 = 256;

impl NameClaim {
    /// Claims a name in the first suitable directory. Replaces the files of a killed supervisor.
    ///
    /// # Errors
    ///
    /// See [`ClaimError`].
    pub fn take(name: &RunName, folders: &[PathBuf]) -> Result<Self, ClaimError> {
        // A run that started in another environment may use another directory.
        if let Some(SupervisorState::Alive { pid, .. }) =
            connect_supervisor(name, folders, Duration::from_secs(1))
        {
            return Err(ClaimError::InUse(Some(pid)));
        }
        let mut tried = Vec::new();
        for path in folders {
            match claim_in(name, path) {
                Ok(LockResult::Claimed(claim)) => return Ok(claim),
                Ok(LockResult::HeldBy(pid)) => return Err(ClaimError::InUse(pid)),
                Err(refusal) => tried.push((path.clone(), refusal)),
            }
        }
        Err(ClaimError::Dir(PrivateDirError { tried }))
    }

    /// The claimed name.
    #[must_use]
    pub fn name(&self) -> &RunName {
        &self.name
    }

    /// The directory of its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// Opens the control socket, nonblocking. Only this user and root can connect. The file appears
    /// under its name by a rename, when the socket has its mode and listens.
    ///
    /// # Errors
    ///
    /// Errors of `bind(2)`, `listen(2)` and `rename(2)`, such as ENOSPC.
    pub fn listen(&self) -> Result<UnixListener, Errno> {
        const BACKLOG: i32 = 128;
        let (file, unfinished) = (socket_file(&self.name), unfinished(&socket_file(&self.name)));
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        refuse_descriptors(&socket);
        self.remove(&unfinished);
        rustix::net::bind(&socket, &socket_address(&self.folder, &unfinished)?)?;
        let published = (|| {
            rustix::fs::chmodat(
                &self.folder,
                &unfinished,
                Mode::from_raw_mode(0o600),
                AtFlags::empty(),
            )?;
            rustix::net::listen(&socket, BACKLOG)?;
            rustix::fs::renameat(&self.folder, &unfinished, &self.folder, &file)
        })();
        if let Err(errno) = published {
            self.remove(&unfinished);
            return Err(errno);
        }
        Ok(UnixListener::from(socket))
    }

    /// Replaces the record atomically.
    ///
    /// # Errors
    ///
    /// Errors of writing a file, such as ENOSPC. The old record remains.
    pub fn write_record(&self, bytes: &[u8]) -> Result<(), Errno> {
        self.write_file(&record_file(&self.name), bytes)
    }

    /// Writes the report about the end of the run, which remains when the claim is dropped. Removes
    /// the oldest reports of other runs, so that the directory has 32 at most.
    ///
    /// # Errors
    ///
    /// Errors of writing a file, such as ENOSPC.
    pub fn write_ended(&self, bytes: &[u8]) -> Result<(), Errno> {
        const MOST: usize = 32;
        self.write_file(&ended_file(&self.name), bytes)?;
        let reports = list_ended(&self.folder).unwrap_or_default();
        let surplus = reports.len().saturating_sub(MOST);
        reports.iter().take(surplus).for_each(|(_, file)| self.remove(file));
        Ok(())
    }

    /// What the last run of the name left. Removes the report about its end; the first record of this
    /// run replaces its record.
    #[must_use]
    pub fn take_earlier(&self) -> EarlierRun {
        let ended = ended_file(&self.name);
        let earlier = EarlierRun {
            record: read_file(&self.folder, &record_file(&self.name)),
            ended: read_file(&self.folder, &ended),
        };
        self.remove(&ended);
        earlier
    }

    fn write_file(&self, file: &str, bytes: &[u8]) -> Result<(), Errno> {
        let unfinished = unfinished(file);
        self.remove(&unfinished);
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        let file_fd = rustix::fs::openat(&self.folder, &unfinished, flags, mode)?;
        let written = private_dir::write_all(&file_fd, bytes)
            .and_then(|()| rustix::fs::renameat(&self.folder, &unfinished, &self.folder, file));
        written.inspect_err(|_| self.remove(&unfinished))
    }

    /// Prepares the claim for an `exec` of this process, which drops nothing. Start no process before
    /// the `exec`, and call [`NameClaim::close_on_exec`] if it fails.
    ///
    /// # Errors
    ///
    /// Errors of `fcntl(2)`.
    pub fn keep_on_exec(&self) -> Result<InheritedClaim, Errno> {
        Ok(InheritedClaim {
            folder: inherit::keep_on_exec(&self.folder)?,
            lock: inherit::keep_on_exec(&self.lock)?,
            path: self.path.clone(),
        })
    }

    /// Undoes [`NameClaim::keep_on_exec`].
    ///
    /// # Errors
    ///
    /// Errors of `fcntl(2)`.
    pub fn close_on_exec(&self) -> Result<(), Errno> {
        inherit::close_on_exec(&self.folder)?;
        inherit::close_on_exec(&self.lock)
    }

    /// Takes over the claim of the program that this process ran before `exec`. Call it once.
    ///
    /// # Errors
    ///
    /// EBADF: the descriptors are not inherited. ENOTDIR: `folder` is not a directory.
    pub fn from_inherited(name: RunName, inherited: InheritedClaim) -> Result<Self, Errno> {
        let (folder, lock) = (inherit::take(inherited.folder)?, inherit::take(inherited.lock)?);
        let is_folder = FileType::from_raw_mode(rustix::fs::fstat(&folder)?.st_mode).is_dir();
        let claim = Self { name, folder, path: inherited.path, lock, leaves_record: false };
        if is_folder { Ok(claim) } else { Err(Errno::NOTDIR) }
    }

    /// Leaves the record at the end, as a killed supervisor does: it describes workers that live.
    pub fn leave_record(&mut self) {
        self.leaves_record = true;
    }

    /// Removes a file. A missing file is no error.
    fn remove(&self, file: &str) {
        let _ = rustix::fs::unlinkat(&self.folder, file, AtFlags::empty());
    }
}

impl Drop for NameClaim {
    fn drop(&mut self) {
        // The lock last: without it, no other supervisor creates files of this name.
        let record = Some(record_file(&self.name)).filter(|_| !self.leaves_record);
        for file in [socket_file(&self.name), ended_file(&self.name)].into_iter().chain(record) {
            self.remove(&unfinished(&file));
            if !file.ends_with(ENDED) {
                self.remove(&file);
            }
        }
        self.remove(&lock_file(&self.name));
        // Fails with ENOTEMPTY while other names have files there.
        let _ = std::fs::remove_dir(&self.path);
    }
}

enum LockResult {
    Claimed(NameClaim),
    /// Another supervisor holds the lock: its pid, if the file contains it.
    HeldBy(Option<i32>),
}

fn claim_in(name: &RunName, path: &Path) -> Result<LockResult, DirRefusal> {
    for _ in 0..ATTEMPTS {
        let folder = match private_dir::open(path, true, |_| Ok(())) {
            // Its last user has removed the directory meanwhile.
            Err(DirRefusal::System(Errno::NOENT)) if path.parent().is_some_and(Path::exists) => {
                continue;
            }
            other => other?,
        };
        let flags =
            OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = lock_file(name);
        let lock = match rustix::fs::openat(&folder, &file, flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Ok(LockResult::HeldBy(holder(&lock))),
            Err(errno) => return Err(errno.into()),
        }
        // The previous holder has removed the file after the open, so others lock another file.
        if rustix::fs::fstat(&lock)?.st_nlink == 0 {
            continue;
        }
        // The pid is for the message of other supervisors. On a full disk it is missing.
        let _ = rustix::fs::ftruncate(&lock, 0).and_then(|()| {
            private_dir::write_all(&lock, std::process::id().to_string().as_bytes())
        });
        let (name, path) = (name.clone(), path.to_owned());
        let leaves_record = false;
        return Ok(LockResult::Claimed(NameClaim { name, folder, path, lock, leaves_record }));
    }
    Err(Errno::STALE.into())
}

/// The pid that the holder has written to the lock file.
fn holder(lock: &OwnedFd) -> Option<i32> {
    let mut digits = [0; 16];
    let length = rustix::io::pread(lock, &mut digits, 0).ok()?;
    std::str::from_utf8(&digits[..length]).ok()?.parse().ok()
}
