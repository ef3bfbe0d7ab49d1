//! The directory of a run's output: opened without following links, and refused if another user could change it.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{CURRENT, LOCK, ROTATED};
use crate::private_dir::DirRefusal;

/// Why output cannot be kept in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDirectoryError {
    /// The directory or file that is refused.
    pub path: PathBuf,
    /// The reason.
    pub why: DirRefusal,
}

impl fmt::Display for LogDirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for LogDirectoryError {}

/// An open directory of output.
#[derive(Debug)]
pub struct LogDirectory {
    pub(super) fd: OwnedFd,
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

impl LogDirectory {
    /// Opens the directory, which ends in `sameport/NAME`; creates what is missing with mode 0700. The two last
    /// parts are opened without following a link, and have to be this user's alone.
    ///
    /// # Errors
    ///
    /// See [`DirRefusal`]. `System(ENOTDIR)` or `System(ELOOP)`: a link or a file has the name. `System(EROFS)`:
    /// the file system is read-only.
    pub fn create(path: &Path) -> Result<Self, LogDirectoryError> {
        let refused = |path: &Path, why| LogDirectoryError { path: path.to_owned(), why };
        let invalid = || refused(path, Errno::INVAL.into());
        let ours = path.parent().ok_or_else(invalid)?;
        let base = ours.parent().ok_or_else(invalid)?;
        // The directories above may be links: a home directory often is.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(base)
            .map_err(|error| refused(base, crate::errno::from_io(&error).into()))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut fd = rustix::fs::open(base, flags, Mode::empty())
            .map_err(|errno| refused(base, errno.into()))?;
        for part in [ours, path] {
            let name = part.file_name().ok_or_else(invalid)?;
            match rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(refused(part, errno.into())),
            }
            let below = rustix::fs::openat(&fd, name, DIRECTORY, Mode::empty());
            fd = below.map_err(|errno| refused(part, errno.into()))?;
            refuse_foreign(&fd).map_err(|why| refused(part, why))?;
        }
        Ok(Self { fd })
    }

    /// Opens the directory for reading its files; creates nothing. `owner`: the user whose output it has.
    ///
    /// # Errors
    ///
    /// Errors of `open(2)`: ENOENT if nothing was kept. `PermissionDenied` if the directory is another user's.
    pub fn open(path: &Path, owner: u32) -> io::Result<Self> {
        let fd = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        if stat.st_uid != owner && stat.st_uid != 0 {
            let why = DirRefusal::OtherUser(stat.st_uid).to_string();
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(Self { fd })
    }

    /// Tests that the present file can be opened for writing, and creates it.
    ///
    /// # Errors
    ///
    /// See [`DirRefusal`]: the file is a link, no regular file, or another user's; or no file can be created.
    pub fn try_write(&self, path: &Path) -> Result<(), LogDirectoryError> {
        let refused = |why| LogDirectoryError { path: path.join(CURRENT), why };
        self.open_current().map(drop).map_err(refused)
    }

    /// Opens the present file for appending, and creates it with mode 0600.
    pub(super) fn open_current(&self) -> Result<OwnedFd, DirRefusal> {
        self.open_file(CURRENT, OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
    }

    /// Opens the file that log writers lock, and creates it.
    pub(super) fn open_lock(&self) -> Result<OwnedFd, DirRefusal> {
        self.open_file(LOCK, OFlags::RDWR | OFlags::CREATE)
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<OwnedFd, DirRefusal> {
        // O_NONBLOCK: the open of a FIFO must not wait.
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        // Another name of the file may be in a directory of another user.
        if stat.st_nlink > 1 {
            return Err(Errno::MLINK.into());
        }
        refuse_foreign(&file)?;
        Ok(file)
    }

    /// Opens a file for reading. `None`: there is no such regular file.
    pub(super) fn read(&self, name: &str) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some(file)
    }

    /// The numbers of the full files, the oldest first.
    pub(super) fn rotated(&self) -> Vec<u64> {
        let Ok(entries) = rustix::fs::Dir::read_from(&self.fd) else { return Vec::new() };
        let number = |name: &str| name.strip_prefix(ROTATED)?.parse().ok();
        let names = entries.flatten();
        let mut numbers: Vec<u64> =
            names.filter_map(|entry| number(entry.file_name().to_str().ok()?)).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The inode of the present file.
    pub(super) fn current_inode(&self) -> Option<u64> {
        let stat = rustix::fs::statat(&self.fd, CURRENT, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(stat.st_ino)
    }

    /// Whether a log writer lives.
    #[must_use]
    pub fn has_writer(&self) -> bool {
        let Some(lock) = self.read(LOCK) else { return false };
        let wanted = rustix::process::Flock::from(rustix::process::FlockType::WriteLock);
        rustix::process::fcntl_getlk(&lock, &wanted).is_ok_and(|holder| holder.is_some())
    }
}

/// Refuses a file or directory that another user owns or may write to.
fn refuse_foreign(fd: &OwnedFd) -> Result<(), DirRefusal> {
    let stat = rustix::fs::fstat(fd)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(DirRefusal::OtherUser(stat.st_uid));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(DirRefusal::OthersCanWrite);
    }
    Ok(())
}

/// The name of the full file with this number.
pub(super) fn rotated_name(number: u64) -> String {
    format!("{ROTATED}{number}")
}
