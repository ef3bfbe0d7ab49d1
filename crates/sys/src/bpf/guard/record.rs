//! The list of guards as a file, and its lock.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::FlockOperation;

/// The list of guards: configuration, which is enforced again after a reboot.
pub const PLACE: &str = "/etc/sameport/guards.json";
/// The new list before it is renamed.
const ASIDE: &str = "/etc/sameport/guards.json.new";
const FOLDER: &str = "/etc/sameport";

/// The lock file, mode 0600. The directory is not locked itself: every user who can open a locked file can
/// hold the lock.
const LOCK: &str = "/etc/sameport/guards.lock";

/// The exclusive right to change the list and the enforced set.
#[derive(Debug)]
pub struct GuardLock {
    _file: File,
}

impl GuardLock {
    /// Waits until no other process holds it.
    ///
    /// # Errors
    /// The directory cannot be created, or the lock file cannot be opened.
    pub fn take() -> io::Result<Self> {
        loop {
            match fs::DirBuilder::new().mode(0o755).create(FOLDER) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let mut options = fs::OpenOptions::new();
            let file = match options.write(true).create(true).truncate(false).mode(0o600).open(LOCK)
            {
                // The previous holder removed the directory.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened?,
            };
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            let same =
                |found: fs::Metadata| Ok::<_, io::Error>(found.ino() == file.metadata()?.ino());
            match fs::metadata(LOCK).and_then(same) {
                Ok(true) => return Ok(Self { _file: file }),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }

    /// The contents of the file; empty if it does not exist.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> io::Result<String> {
        read()
    }

    /// Replaces the file atomically; a crash leaves either the old or the new one. `None` removes it.
    ///
    /// # Errors
    /// ENOSPC and others; the old file stays.
    pub fn write(&self, text: Option<&str>) -> io::Result<()> {
        let Some(text) = text else {
            return match fs::remove_file(PLACE) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        };
        let written = write_aside(text).and_then(|()| fs::rename(ASIDE, PLACE));
        if written.is_err() {
            let _ = fs::remove_file(ASIDE);
        }
        written?;
        File::open(FOLDER)?.sync_all()
    }

    /// Reads the file without the lock, for display. Every user can.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_without_lock() -> io::Result<String> {
        read()
    }
}

impl Drop for GuardLock {
    /// Removes the directory too if it is empty.
    fn drop(&mut self) {
        let _ = fs::remove_file(LOCK);
        let _ = fs::remove_dir(FOLDER);
    }
}

fn read() -> io::Result<String> {
    match fs::read_to_string(Path::new(PLACE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

fn write_aside(text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o644).open(ASIDE)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Whether this thread is in the network namespace of pid 1, in which services start after a reboot.
///
/// # Errors
/// `/proc/1` is hidden.
pub fn is_initial_netns() -> io::Result<bool> {
    // The inode differs between namespaces. Reading `ns/net` would need permission to ptrace pid 1.
    let number = |of: &str| fs::metadata(format!("/proc/{of}/net/dev")).map(|file| file.ino());
    Ok(number("self")? == number("1")?)
}

/// The boot id, which changes at every boot.
///
/// # Errors
/// The file cannot be read.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
