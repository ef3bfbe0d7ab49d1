//! Where the library's file lies while a run lasts.
//!
//! A dynamic linker opens a file by its name, so there has to be one: in a folder that only this
//! user can write to, readable by every user (a worker may change its user and then start a
//! program), locked while it is in use, and gone afterwards. What a run that was killed has left is
//! removed by the next one.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use super::LIBRARY_PREFIX;
use crate::private_dir;
use crate::private_dir::{DirRefusal, PrivateDirError};

/// The library's file; removed when this is dropped.
#[derive(Debug)]
pub struct LibraryFile {
    path: PathBuf,
    folder: OwnedFd,
    name: String,
    /// Locked: the sign for others that it is in use.
    file: OwnedFd,
}

/// Where to try, in this order. `runtime`: the value of XDG_RUNTIME_DIR; not for root, whose workers
/// may become another user, who could not enter it.
#[must_use]
pub fn folders(runtime: Option<&Path>) -> Vec<PathBuf> {
    let user = rustix::process::geteuid();
    let first = if user.is_root() {
        Some(PathBuf::from("/run/sameport"))
    } else {
        runtime
            // LD_PRELOAD is a list with these between its entries.
            .filter(|folder| !folder.as_os_str().as_bytes().iter().any(|b| b": \t\n".contains(b)))
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join("sameport"))
    };
    first.into_iter().chain([PathBuf::from(format!("/tmp/sameport-{}", user.as_raw()))]).collect()
}

/// Writes the library into the first of these folders that will do, and removes from it what dead
/// runs have left. A folder that is not there is made; the one above it must be there.
///
/// # Errors
/// Every folder with the reason why it would not do.
pub fn install(bytes: &[u8], folders: &[PathBuf]) -> Result<LibraryFile, PrivateDirError> {
    let mut tried = Vec::new();
    for (place, folder) in folders.iter().enumerate() {
        match place_in(bytes, folder) {
            Ok(placed) => {
                // An earlier run may have had to take one of the others.
                folders[place + 1..].iter().for_each(|folder| clean(folder));
                return Ok(placed);
            }
            Err(refusal) => tried.push((folder.clone(), refusal)),
        }
    }
    Err(PrivateDirError { tried })
}

impl LibraryFile {
    /// Its path, absolute if the folder's was.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is still there: somebody may clean up in the folder. A program started without it
    /// is not hooked.
    #[must_use]
    pub fn exists(&self) -> bool {
        rustix::fs::fstat(&self.file).is_ok_and(|file| file.st_nlink > 0)
    }
}

impl Drop for LibraryFile {
    fn drop(&mut self) {
        // Not there: somebody was faster.
        let _ = rustix::fs::unlinkat(&self.folder, self.name.as_str(), AtFlags::empty());
        // Not empty: another run is using it.
        let _ = self.path.parent().map(std::fs::remove_dir);
    }
}

/// How often it is tried again when another run, at its end, removes the folder meanwhile.
const ATTEMPTS: u32 = 256;

fn place_in(bytes: &[u8], folder: &Path) -> Result<LibraryFile, DirRefusal> {
    let mut last = Errno::NOENT;
    for attempt in 0..ATTEMPTS {
        let handle = match open_folder(folder, true) {
            Err(DirRefusal::System(Errno::NOENT)) if attempt + 1 < ATTEMPTS => continue,
            other => other?,
        };
        remove_stale(&handle);
        let name = format!("{LIBRARY_PREFIX}-{}-{}.so", std::process::id(), serial());
        match create(&handle, &name, bytes) {
            Ok(file) => {
                return Ok(LibraryFile { path: folder.join(&name), folder: handle, name, file });
            }
            // The folder is gone, the name is taken by a dead run, or the file has been taken for
            // one of a dead run before it was locked.
            Err(errno @ (Errno::NOENT | Errno::EXIST | Errno::STALE)) => last = errno,
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(last.into())
}

/// A number that no other call in this process gets.
fn serial() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Removes what dead runs have left in a folder, and the folder if nothing else is in it.
fn clean(folder: &Path) {
    if let Ok(handle) = open_folder(folder, false) {
        remove_stale(&handle);
        // Not empty: another run is using it.
        let _ = std::fs::remove_dir(folder);
    }
}

/// Opens the folder, which others must be able to enter; makes it if `make` says so.
fn open_folder(folder: &Path, make: bool) -> Result<OwnedFd, DirRefusal> {
    let handle = private_dir::open(folder, make, may_execute)?;
    // Our umask may have closed it, or who made it.
    rustix::fs::fchmod(&handle, Mode::from_raw_mode(0o711))?;
    Ok(handle)
}

fn may_execute(folder: &OwnedFd) -> Result<(), DirRefusal> {
    let mount = rustix::fs::fstatvfs(folder)?;
    let refused = mount.f_flag.contains(StatVfsMountFlags::NOEXEC);
    if refused { Err(DirRefusal::NoExec) } else { Ok(()) }
}

fn create(folder: &OwnedFd, name: &str, bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600))?;
    let written = (|| {
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        private_dir::write_all(&file, bytes)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o755))?;
        if rustix::fs::fstat(&file)?.st_nlink == 0 { Err(Errno::STALE) } else { Ok(()) }
    })();
    match written {
        Ok(()) => Ok(file),
        Err(Errno::AGAIN) => Err(Errno::STALE),
        Err(errno) => {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
            Err(errno)
        }
    }
}

/// Removes our files that nobody has locked. What cannot be looked at is left alone.
fn remove_stale(folder: &OwnedFd) {
    const MOST: usize = 10_000;
    let Ok(entries) = Dir::read_from(folder) else { return };
    for entry in entries.flatten().take(MOST) {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        // What named runs have there may begin with any name, and ends otherwise.
        if !name.as_bytes().starts_with(LIBRARY_PREFIX.as_bytes())
            || !name.as_bytes().ends_with(b".so")
        {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let Ok(file) = rustix::fs::openat(folder, name, flags, Mode::empty()) else { continue };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
#[path = "library_file_tests.rs"]
mod tests;
