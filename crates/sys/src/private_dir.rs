//! A folder of our own below one that others may write to, such as `/tmp` or `$XDG_RUNTIME_DIR`.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Why no folder would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateDirError {
    /// Every folder that was tried, with its reason.
    pub tried: Vec<(PathBuf, DirRefusal)>,
}

/// Why a folder would not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirRefusal {
    /// The system said no.
    System(Errno),
    /// The folder, or the one that it is in, belongs to this user.
    OtherUser(u32),
    /// Others can write to it, or replace it.
    OthersCanWrite,
    /// Nothing in it may be executed (mount option `noexec`).
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

/// Opens a folder that is ours, and nobody else's to change; makes it, for us alone, if it is not
/// there and `make` says so. `fits` looks at the folder above it, and then at it.
///
/// # Errors
/// Why it will not do. A symbolic link in its place: `ENOTDIR` or `ELOOP`.
pub(crate) fn open(
    folder: &Path,
    make: bool,
    fits: fn(&OwnedFd) -> Result<(), DirRefusal>,
) -> Result<OwnedFd, DirRefusal> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let above = folder.parent().ok_or(Errno::INVAL)?;
    let name = folder.file_name().ok_or(Errno::INVAL)?;
    let above = rustix::fs::open(above, flags, Mode::empty())?;
    let found = rustix::fs::fstat(&above)?;
    let us = rustix::process::geteuid().as_raw();
    if found.st_uid != us && found.st_uid != 0 {
        return Err(DirRefusal::OtherUser(found.st_uid));
    }
    // Who can write to it can put another folder in place of ours, unless it is sticky.
    if found.st_mode & 0o022 != 0 && found.st_mode & 0o1000 == 0 {
        return Err(DirRefusal::OthersCanWrite);
    }
    fits(&above)?;
    if make {
        match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let handle = rustix::fs::openat(&above, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    let found = rustix::fs::fstat(&handle)?;
    if found.st_uid != us {
        return Err(DirRefusal::OtherUser(found.st_uid));
    }
    if found.st_mode & 0o022 != 0 {
        return Err(DirRefusal::OthersCanWrite);
    }
    fits(&handle)?;
    Ok(handle)
}

/// Writes all of it.
///
/// # Errors
/// Those of `write`; `ENOSPC` too where it writes nothing.
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
