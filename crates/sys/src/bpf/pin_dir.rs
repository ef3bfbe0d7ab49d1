//! Directories of pinned links and maps below `/sys/fs/bpf/sameport`.

use std::error::Error;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::attach_error::os_error;
use super::syscall;

const BPFFS: &str = "/sys/fs/bpf";
/// Contains every pin of sameport.
pub(crate) const PIN_ROOT: &str = "/sys/fs/bpf/sameport";
/// Prefix of the file name of a link; the name of its program follows.
pub(crate) const LINK_PREFIX: &str = "link_";

/// Why pins could not be created, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The user is not permitted to; root is.
    #[error("{0} {path}: {2}", path = .1.display())]
    NotPermitted(&'static str, PathBuf, io::Error),
    /// The mount point of the BPF file system is missing or contains something else.
    #[error("no BPF file system can be mounted on {BPFFS}: {0}")]
    NoFileSystem(io::Error),
    /// sameport is attached to this cgroup already.
    #[error("already attached")]
    Already,
    /// sameport is not attached to this cgroup.
    #[error("not attached")]
    NotAttached,
    /// Another system call failed.
    #[error("{0} {path}: {2}", path = .1.display())]
    System(&'static str, PathBuf, io::Error),
}

pub(crate) type PinResult<T> = Result<T, PinError>;

/// Converts an error of `call` on `path`.
pub(crate) fn failed<'a>(
    call: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> PinError + 'a {
    move |error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => PinError::NotPermitted(call, path.into(), error),
        _ => PinError::System(call, path.into(), error),
    }
}

/// Converts an error of aya.
pub(crate) fn from_aya(call: &'static str, path: &Path, error: &(dyn Error + 'static)) -> PinError {
    failed(call, path)(os_error(error).unwrap_or_else(|| io::Error::other(error.to_string())))
}

/// Mounts the BPF file system on `/sys/fs/bpf` with mode 0700, as bpftool(8) does, unless it is
/// mounted. Returns whether it had to. Needs CAP_SYS_ADMIN.
pub(crate) fn ensure_bpffs() -> PinResult<bool> {
    // statfs(2), BPF_FS_MAGIC
    const BPF_FS: rustix::fs::FsWord = 0xcafe_4a11;
    let kind = rustix::fs::statfs(BPFFS).map_err(|errno| PinError::NoFileSystem(errno.into()))?;
    if kind.f_type == BPF_FS {
        return Ok(false);
    }
    if !list(Path::new(BPFFS))?.is_empty() {
        return Err(PinError::NoFileSystem(ErrorKind::DirectoryNotEmpty.into()));
    }
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("bpf", BPFFS, "bpf", flags, c"mode=0700").map_err(
        |errno| match errno {
            rustix::io::Errno::PERM => PinError::NotPermitted("mount", BPFFS.into(), errno.into()),
            errno => PinError::NoFileSystem(errno.into()),
        },
    )?;
    Ok(true)
}

/// Creates a directory below [`PIN_ROOT`] and its parents. Another process may be removing an empty
/// parent at the same time, so a vanished parent is created again.
pub(crate) fn create(path: &Path) -> PinResult<()> {
    create_with_mode(path, 0o755)
}

/// As [`create`], and no other user can open the directory: every user who can open a locked directory can hold
/// the lock (flock(2)).
pub(crate) fn create_private(path: &Path) -> PinResult<()> {
    create_with_mode(path, 0o700)
}

fn create_with_mode(path: &Path, mode: u32) -> PinResult<()> {
    const ATTEMPTS: usize = 100;
    let parent =
        path.parent().filter(|parent| parent.starts_with(PIN_ROOT)).unwrap_or(Path::new(PIN_ROOT));
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o755);
    for _ in 1..ATTEMPTS {
        match builder.create(parent) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(failed("mkdir", parent)(error));
            }
            _ => {}
        }
        require_trusted(parent)?;
        match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => return result.map_err(failed("mkdir", path)),
        }
    }
    Err(failed("mkdir", path)(ErrorKind::NotFound.into()))
}

/// Removes a directory of pins. Each pin is opened before it is unlinked: closing the last descriptor
/// of a link detaches it at once, unlinking the last pin only after a delay.
pub(crate) fn remove(dir: &Path) -> PinResult<()> {
    for path in list(dir)? {
        let opened = syscall::open_pinned(&path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("unlink", &path)(error));
            }
            _ => drop(opened),
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("rmdir", dir)(error)),
        _ => Ok(()),
    }
}

/// The entries of a directory; none if it does not exist.
pub(crate) fn list(dir: &Path) -> PinResult<Vec<PathBuf>> {
    require_trusted(dir)?;
    match fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(failed("open", dir)(error)),
    }
}

/// Checks that this directory and its parents below [`PIN_ROOT`] belong to root or the caller and that
/// no other user can write to them. The kernel mounts the BPF file system world-writable by default,
/// so another user could replace a directory by a symbolic link and have sameport remove its target.
pub(crate) fn require_trusted(dir: &Path) -> PinResult<()> {
    let parents: Vec<_> = dir.ancestors().take_while(|it| it.starts_with(PIN_ROOT)).collect();
    for dir in parents.into_iter().rev() {
        let found = match fs::symlink_metadata(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found.map_err(failed("stat", dir))?,
        };
        let (owner, mode) = (found.uid(), found.mode());
        let why = match () {
            () if !found.is_dir() => "not a directory".to_owned(),
            () if ![0, crate::effective_user()].contains(&owner) => {
                format!("owned by uid {owner}, not by root: remove it")
            }
            () if mode & 0o022 != 0 => {
                format!("writable by other users (mode {:o})", mode & 0o777)
            }
            () => continue,
        };
        return Err(failed("trust", dir)(io::Error::other(why)));
    }
    Ok(())
}
