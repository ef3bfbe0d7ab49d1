//! A private directory below one that other users may write to, such as `/tmp` or `$XDG_RUNTIME_DIR`.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// No candidate is suitable as private directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateDirError {
    /// The candidates, each with the reason against it.
    pub tried: Vec<(PathBuf, DirRefusal)>,
}

/// Why a directory is not suitable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirRefusal {
    /// A system call failed.
    System(Errno),
    /// The directory or its parent belongs to this user id.
    OtherUser(u32),
    /// Other users can write to the directory or replace it.
    OthersCanWrite,
    /// Files in it cannot be executed (mount option `noexec`).
    NoExec,
}

impl fmt::Display for DirRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(errno) => errno.fmt(f),
            Self::OtherUser(user) => write!(f, "belongs to user {user}"),
            Self::OthersCanWrite => f.write_str("others can write to it"),
            Self::NoExec => f.write_str("is mounted noexec"),
        }
    }
}

impl fmt::Display for PrivateDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (folder, refusal)) in self.tried.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{}: {refusal}", folder.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for PrivateDirError {}

impl From<Errno> for DirRefusal {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

/// Opens a directory that this user owns and no other user can change. With `create`, creates it
/// with mode 0700 if it does not exist. `check` examines the parent, and then the directory.
///
/// # Errors
///
/// See [`DirRefusal`]. `System(ENOTDIR)` or `System(ELOOP)`: a symbolic link has the name.
pub(crate) fn open(
    folder: &Path,
    create: bool,
    check: fn(&OwnedFd) -> Result<(), DirRefusal>,
) -> Result<OwnedFd, DirRefusal> {
    open_of(rustix::process::geteuid().as_raw(), folder, create, check)
}

/// [`open`] for a directory of this user.
pub(crate) fn open_of(
    owner: u32,
    folder: &Path,
    create: bool,
    check: fn(&OwnedFd) -> Result<(), DirRefusal>,
) -> Result<OwnedFd, DirRefusal> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let parent = folder.parent().ok_or(Errno::INVAL)?;
    let name = folder.file_name().ok_or(Errno::INVAL)?;
    let parent = rustix::fs::open(parent, flags, Mode::empty())?;
    let status = rustix::fs::fstat(&parent)?;
    if status.st_uid != owner && status.st_uid != 0 {
        return Err(DirRefusal::OtherUser(status.st_uid));
    }
    // A user with write access to the parent can replace the directory, unless the parent is sticky.
    if status.st_mode & 0o022 != 0 && status.st_mode & 0o1000 == 0 {
        return Err(DirRefusal::OthersCanWrite);
    }
    check(&parent)?;
    if create {
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let handle = rustix::fs::openat(&parent, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    let status = rustix::fs::fstat(&handle)?;
    if status.st_uid != owner {
        return Err(DirRefusal::OtherUser(status.st_uid));
    }
    if status.st_mode & 0o022 != 0 {
        return Err(DirRefusal::OthersCanWrite);
    }
    check(&handle)?;
    Ok(handle)
}

/// Writes all bytes.
///
/// # Errors
///
/// Errors of `write(2)`; ENOSPC if `write` writes nothing.
pub(crate) fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
