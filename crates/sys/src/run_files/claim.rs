//! The supervisor's side: a name that is ours until we end.

use std::fmt;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sameport_policy::model::name::RunName;

use super::{SupervisorState, connect_supervisor, lock_file, record_file, socket_file, unfinished};
use crate::fd::inherit;
use crate::private_dir;
use crate::private_dir::{DirRefusal, PrivateDirError};

/// A name that no other supervisor of this user can have, until this is dropped; its files go with
/// it.
#[derive(Debug)]
pub struct NameClaim {
    name: RunName,
    folder: OwnedFd,
    path: PathBuf,
    lock: OwnedFd,
}

/// Why a name could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimError {
    /// A living supervisor has it: its pid, if that could be told.
    InUse(Option<i32>),
    /// No folder would do.
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

/// A claim on its way through an `exec` of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InheritedClaim {
    /// The descriptor of the folder.
    pub folder: RawFd,
    /// The descriptor that holds the lock.
    pub lock: RawFd,
    /// Where the folder is.
    pub path: PathBuf,
}

/// How often it is tried again when another supervisor, at its end, removes lock or folder.
const ATTEMPTS: u32 = 256;

impl NameClaim {
    /// Takes a name in the first of these folders that will do. What a supervisor that was killed
    /// has left there is taken over.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub fn take(name: &RunName, folders: &[PathBuf]) -> Result<Self, ClaimError> {
        // Another environment may have sent an earlier run to another folder.
        if let Some(SupervisorState::Alive { pid, .. }) =
            connect_supervisor(name, folders, Duration::from_secs(1))
        {
            return Err(ClaimError::InUse(Some(pid)));
        }
        let mut tried = Vec::new();
        for path in folders {
            match take_in(name, path) {
                Ok(NameTaken::Ours(claim)) => return Ok(claim),
                Ok(NameTaken::By(pid)) => return Err(ClaimError::InUse(pid)),
                Err(refusal) => tried.push((path.clone(), refusal)),
            }
        }
        Err(ClaimError::Dir(PrivateDirError { tried }))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &RunName {
        &self.name
    }

    /// The folder that its files are in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// Listens on the name's socket, nonblocking. Only this user (and root) can connect; there is no
    /// moment at which the file is there and nobody listens, or others could connect.
    ///
    /// # Errors
    /// Those of `socket`, `bind`, `listen` and `rename`, a full disk among them.
    pub fn listen(&self) -> Result<UnixListener, Errno> {
        const BACKLOG: i32 = 128;
        let (file, unfinished) = (socket_file(&self.name), unfinished(&socket_file(&self.name)));
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        self.remove(&unfinished);
        // An address has 108 bytes; the folder's path may be longer.
        let path = format!("/proc/self/fd/{}/{unfinished}", self.folder.as_raw_fd());
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        let made = (|| {
            rustix::fs::chmodat(
                &self.folder,
                &unfinished,
                Mode::from_raw_mode(0o600),
                AtFlags::empty(),
            )?;
            rustix::net::listen(&socket, BACKLOG)?;
            rustix::fs::renameat(&self.folder, &unfinished, &self.folder, &file)
        })();
        if let Err(errno) = made {
            self.remove(&unfinished);
            return Err(errno);
        }
        Ok(UnixListener::from(socket))
    }

    /// Replaces the name's record: readers see the old one or the new one.
    ///
    /// # Errors
    /// Those of writing a file, a full disk among them. The old one is still there then.
    pub fn write_record(&self, bytes: &[u8]) -> Result<(), Errno> {
        let (file, unfinished) = (record_file(&self.name), unfinished(&record_file(&self.name)));
        self.remove(&unfinished);
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        let made = rustix::fs::openat(&self.folder, &unfinished, flags, mode)?;
        let written = private_dir::write_all(&made, bytes)
            .and_then(|()| rustix::fs::renameat(&self.folder, &unfinished, &self.folder, &file));
        written.inspect_err(|_| self.remove(&unfinished))
    }

    /// Lets the claim outlive an `exec` of this process, by which nothing is dropped. Nothing may be
    /// started in between. If `exec` fails, [`Claim::stay`].
    ///
    /// # Errors
    /// Those of `fcntl`.
    pub fn keep_on_exec(&self) -> Result<InheritedClaim, Errno> {
        Ok(InheritedClaim {
            folder: inherit::keep_on_exec(&self.folder)?,
            lock: inherit::keep_on_exec(&self.lock)?,
            path: self.path.clone(),
        })
    }

    /// There was no `exec` after [`Claim::pass`].
    ///
    /// # Errors
    /// Those of `fcntl`.
    pub fn close_on_exec(&self) -> Result<(), Errno> {
        inherit::close_on_exec(&self.folder)?;
        inherit::close_on_exec(&self.lock)
    }

    /// The claim that was passed through an `exec`. Once for each.
    ///
    /// # Errors
    /// `EBADF`: these descriptors are not open. `ENOTDIR`: they are others.
    pub fn from_inherited(name: RunName, passed: InheritedClaim) -> Result<Self, Errno> {
        let (folder, lock) = (inherit::take(passed.folder)?, inherit::take(passed.lock)?);
        let is_folder = FileType::from_raw_mode(rustix::fs::fstat(&folder)?.st_mode).is_dir();
        let claim = Self { name, folder, path: passed.path, lock };
        if is_folder { Ok(claim) } else { Err(Errno::NOTDIR) }
    }

    /// Not there is as good as removed.
    fn remove(&self, file: &str) {
        let _ = rustix::fs::unlinkat(&self.folder, file, AtFlags::empty());
    }
}

impl Drop for NameClaim {
    fn drop(&mut self) {
        // The lock last: until then nobody else makes files of this name.
        for file in [socket_file(&self.name), record_file(&self.name)] {
            self.remove(&unfinished(&file));
            self.remove(&file);
        }
        self.remove(&lock_file(&self.name));
        // Not empty: others have names there.
        let _ = std::fs::remove_dir(&self.path);
    }
}

enum NameTaken {
    Ours(NameClaim),
    /// A living supervisor has it, with this pid, if it could write that.
    By(Option<i32>),
}

fn take_in(name: &RunName, path: &Path) -> Result<NameTaken, DirRefusal> {
    for _ in 0..ATTEMPTS {
        let folder = match private_dir::open(path, true, |_| Ok(())) {
            // Its last user has removed it since.
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
            Err(Errno::AGAIN) => return Ok(NameTaken::By(holder(&lock))),
            Err(errno) => return Err(errno.into()),
        }
        // Removed by the one who had it before, after we opened it: nobody else would see our lock.
        if rustix::fs::fstat(&lock)?.st_nlink == 0 {
            continue;
        }
        // For the message that others get. On a full disk it says less.
        let _ = rustix::fs::ftruncate(&lock, 0).and_then(|()| {
            private_dir::write_all(&lock, std::process::id().to_string().as_bytes())
        });
        let (name, path) = (name.clone(), path.to_owned());
        return Ok(NameTaken::Ours(NameClaim { name, folder, path, lock }));
    }
    Err(Errno::STALE.into())
}

/// The pid that the lock's holder has written into it.
fn holder(lock: &OwnedFd) -> Option<i32> {
    let mut digits = [0; 16];
    let length = rustix::io::pread(lock, &mut digits, 0).ok()?;
    std::str::from_utf8(&digits[..length]).ok()?.parse().ok()
}
