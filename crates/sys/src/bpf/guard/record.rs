//! The list of guards as a file, and who may change it now.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::FlockOperation;

/// The file. It is configuration: what the administrator has decided, and wants back after a start.
pub const PLACE: &str = "/etc/sameport/guards.json";
/// What is written before it takes the place.
const ASIDE: &str = "/etc/sameport/guards.json.new";
const FOLDER: &str = "/etc/sameport";

/// Who may change the list now. Not the folder itself, in which others may have files for everybody to
/// read: whoever can open what is locked could keep the lock for ever.
const LOCK: &str = "/etc/sameport/guards.lock";

/// The right to change the list and what is enforced, which one process has at a time.
#[derive(Debug)]
pub struct GuardLock {
    _file: File,
}

impl GuardLock {
    /// Waits until nobody else has it.
    ///
    /// # Errors
    /// Where the folder of the file cannot be made, or the lock not be opened.
    pub fn take() -> io::Result<Self> {
        loop {
            match fs::DirBuilder::new().mode(0o755).create(FOLDER) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let mut options = fs::OpenOptions::new();
            let file = match options.write(true).create(true).truncate(false).mode(0o600).open(LOCK)
            {
                // The folder was removed by who had it.
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

    /// What the file says; nothing where there is none.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self) -> io::Result<String> {
        read()
    }

    /// Replaces it: after a failure, or a kill at any moment, the file is either the old one or the new
    /// one. `None` removes it.
    ///
    /// # Errors
    /// `ENOSPC`, for one; then the old one is there.
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

    /// The same without having it, to be shown; everybody may.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read_without_lock() -> io::Result<String> {
        read()
    }
}

impl Drop for GuardLock {
    /// The folder goes if nothing else is in it.
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

/// Whether this thread's network namespace is that of the first process, which a service gets after the
/// machine has been started again.
///
/// # Errors
/// Where `/proc/1` is not to be seen.
pub fn is_initial_netns() -> io::Result<bool> {
    // Each namespace has files of its own there; its link in `ns` needs rights over the process.
    let number = |of: &str| fs::metadata(format!("/proc/{of}/net/dev")).map(|file| file.ino());
    Ok(number("self")? == number("1")?)
}

/// A text that is another one after each start of the machine.
///
/// # Errors
/// Where it cannot be read.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}
