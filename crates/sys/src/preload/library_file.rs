//! The file of the library during a run.
//!
//! A dynamic linker opens the library by a path. The file is in a directory that only this user can
//! write to, and readable by every user, because a worker may change its user and then execute a
//! program. The file is locked while in use and removed at the end; the next run removes files of
//! killed runs.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use super::LIBRARY_PREFIX;
use crate::private_dir;
use crate::private_dir::{DirRefusal, PrivateDirError};

/// The installed library, removed on drop.
#[derive(Debug)]
pub struct LibraryFile {
    path: PathBuf,
    folder: OwnedFd,
    name: String,
    /// The open file, whose lock tells other runs that it is in use.
    file: OwnedFd,
}

/// The candidate directories, in order of preference. `runtime` is the value of XDG_RUNTIME_DIR. It is
/// the last one for root, whose workers may change to a user who cannot enter it.
#[must_use]
pub fn folders(runtime: Option<&Path>) -> Vec<PathBuf> {
    let user = rustix::process::geteuid();
    let runtime = runtime
        // The separators of LD_PRELOAD.
        .filter(|folder| !folder.as_os_str().as_bytes().iter().any(|b| b": \t\n".contains(b)))
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("sameport"));
    let temporary = PathBuf::from(format!("/tmp/sameport-{}", user.as_raw()));
    match user.is_root() {
        true => [PathBuf::from("/run/sameport"), temporary].into_iter().chain(runtime).collect(),
        false => runtime.into_iter().chain([temporary]).collect(),
    }
}

/// Writes the library into the first suitable directory, which is created if its parent exists, and
/// removes files of dead runs.
///
/// # Errors
///
/// Every directory with the reason against it.
pub fn install(bytes: &[u8], folders: &[PathBuf]) -> Result<LibraryFile, PrivateDirError> {
    let mut tried = Vec::new();
    for (index, folder) in folders.iter().enumerate() {
        match install_in(bytes, folder) {
            Ok(installed) => {
                // An earlier run may have used one of the others.
                folders[index + 1..].iter().for_each(|folder| clean(folder));
                return Ok(installed);
            }
            Err(refusal) => tried.push((folder.clone(), refusal)),
        }
    }
    Err(PrivateDirError { tried })
}

impl LibraryFile {
    /// The path of the file, absolute if the directory's path is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file still exists: a cleanup of the directory may have removed it. Programs started
    /// after that do not load the library.
    #[must_use]
    pub fn exists(&self) -> bool {
        rustix::fs::fstat(&self.file).is_ok_and(|file| file.st_nlink > 0)
    }
}

impl Drop for LibraryFile {
    fn drop(&mut self) {
        // The file may have been removed already.
        let _ = rustix::fs::unlinkat(&self.folder, self.name.as_str(), AtFlags::empty());
        // Fails with ENOTEMPTY while another run uses the directory.
        let _ = self.path.parent().map(std::fs::remove_dir);
    }
}

/// Attempts if other runs remove the directory at their end meanwhile.
const ATTEMPTS: u32 = 256;

fn install_in(bytes: &[u8], folder: &Path) -> Result<LibraryFile, DirRefusal> {
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
            // The directory was removed, a dead run left a file of this name, or another run removed
            // the file before it was locked.
            Err(errno @ (Errno::NOENT | Errno::EXIST | Errno::STALE)) => last = errno,
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(last.into())
}

/// A number that is unique in this process.
fn serial() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Removes files of dead runs, and the directory if it is empty then.
fn clean(folder: &Path) {
    if let Ok(handle) = open_folder(folder, false) {
        remove_stale(&handle);
        // Fails with ENOTEMPTY while another run uses the directory.
        let _ = std::fs::remove_dir(folder);
    }
}

/// Opens the directory with mode 0711, so that every user can open the library by its path.
fn open_folder(folder: &Path, create: bool) -> Result<OwnedFd, DirRefusal> {
    let handle = private_dir::open(folder, create, check_exec)?;
    // `mkdir` applies the umask, and named runs create the directory with mode 0700.
    rustix::fs::fchmod(&handle, Mode::from_raw_mode(0o711))?;
    Ok(handle)
}

/// Refuses a file system that is mounted `noexec`: the linker cannot map the library from it.
fn check_exec(folder: &OwnedFd) -> Result<(), DirRefusal> {
    let mount = rustix::fs::fstatvfs(folder)?;
    let is_noexec = mount.f_flag.contains(StatVfsMountFlags::NOEXEC);
    if is_noexec { Err(DirRefusal::NoExec) } else { Ok(()) }
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

/// Removes files of the library that are not locked. Skips files that cannot be opened.
fn remove_stale(folder: &OwnedFd) {
    const ENTRY_LIMIT: usize = 10_000;
    let Ok(entries) = Dir::read_from(folder) else { return };
    for entry in entries.flatten().take(ENTRY_LIMIT) {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        // Named runs have files here whose names may have the same prefix, but not the suffix.
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
