//! Appending to the present file, and replacing it when it is full.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::CURRENT;
use super::directory::{LogDirectory, rotated_name};
use crate::private_dir::DirRefusal;

/// The files of one run, for its log writer. Several log writers may write at once, which happens while workers of
/// a killed supervisor live beside those of the next one.
#[derive(Debug)]
pub struct LogFiles {
    path: PathBuf,
    max_size: u64,
    files: u32,
    open: Option<OpenFiles>,
}

#[derive(Debug)]
struct OpenFiles {
    directory: LogDirectory,
    current: OwnedFd,
    inode: u64,
    size: u64,
    /// Locked while this process lives, and released by the kernel.
    _lock: OwnedFd,
}

impl LogFiles {
    /// The files of a directory, at most `files` of `max_size` bytes each. Opens nothing.
    #[must_use]
    pub fn new(path: PathBuf, max_size: u64, files: u32) -> Self {
        Self { path, max_size, files, open: None }
    }

    /// Opens the files, if they are not open. The lock tells readers that a log writer lives.
    ///
    /// # Errors
    ///
    /// See [`DirRefusal`].
    pub fn open(&mut self) -> Result<(), DirRefusal> {
        self.opened().map(drop)
    }

    fn opened(&mut self) -> Result<&mut OpenFiles, DirRefusal> {
        match &mut self.open {
            Some(_) => {}
            none => *none = Some(OpenFiles::open(&self.path)?),
        }
        self.open.as_mut().ok_or(DirRefusal::System(Errno::BADF))
    }

    /// Appends records, each of which ends with a newline and has no other. Returns the number of bytes that were
    /// written, always whole records; the error is the reason why the others were not.
    pub fn append(&mut self, records: &[u8]) -> (usize, Option<DirRefusal>) {
        let (max_size, files) = (self.max_size, self.files);
        let mut written = 0;
        while written < records.len() {
            let open = match self.opened() {
                Ok(open) => open,
                Err(refusal) => return (written, Some(refusal)),
            };
            if let Err(refusal) = open.prepare(max_size, files) {
                self.open = None;
                return (written, Some(refusal));
            }
            let room = usize::try_from(max_size.saturating_sub(open.size)).unwrap_or(usize::MAX);
            let rest = &records[written..];
            let (done, error) = open.write(&rest[..whole_records(rest, room)]);
            written += done;
            if let Some(errno) = error {
                return (written, Some(errno.into()));
            }
        }
        (written, None)
    }
}

/// The length of the records that fit into `room` bytes; of the first one if none fits.
fn whole_records(records: &[u8], room: usize) -> usize {
    if records.len() <= room {
        return records.len();
    }
    let newline = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
    let first = || records.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    newline(&records[..room]).or_else(first).unwrap_or(records.len())
}

impl OpenFiles {
    fn open(path: &std::path::Path) -> Result<Self, DirRefusal> {
        let directory = LogDirectory::create(path).map_err(|error| error.why)?;
        let lock = directory.open_lock()?;
        // A file system without locks: readers then ask the supervisor only.
        let _ = rustix::fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockShared);
        let current = directory.open_current()?;
        let stat = rustix::fs::fstat(&current)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Ok(Self { directory, current, inode: stat.st_ino, size, _lock: lock })
    }

    /// Makes the present file one that exists and is not full.
    fn prepare(&mut self, max_size: u64, files: u32) -> Result<(), DirRefusal> {
        match self.directory.current_inode() {
            Some(inode) if inode == self.inode => {}
            // Another log writer has replaced it, or a user has removed it or its directory.
            _ => return self.reopen(),
        }
        // Another log writer, or a user who has truncated the file.
        let stat = rustix::fs::fstat(&self.current)?;
        self.size = u64::try_from(stat.st_size).unwrap_or(0);
        match self.size >= max_size {
            true => self.rotate(files),
            false => Ok(()),
        }
    }

    fn reopen(&mut self) -> Result<(), DirRefusal> {
        self.current = self.directory.open_current()?;
        let stat = rustix::fs::fstat(&self.current)?;
        (self.inode, self.size) = (stat.st_ino, u64::try_from(stat.st_size).unwrap_or(0));
        Ok(())
    }

    fn rotate(&mut self, files: u32) -> Result<(), DirRefusal> {
        // A second log writer in the same directory rotates at the same time. If it holds the lock, it rotates for
        // both; a file system without locks has one writer nearly always.
        let lock = rustix::fs::flock(&self.directory.fd, FlockOperation::NonBlockingLockExclusive);
        if lock == Err(Errno::WOULDBLOCK) {
            return Ok(());
        }
        let result = self.rotate_locked(files);
        // Fails where the lock did.
        let _ = rustix::fs::flock(&self.directory.fd, FlockOperation::Unlock);
        result
    }

    fn rotate_locked(&mut self, files: u32) -> Result<(), DirRefusal> {
        if self.directory.current_inode() != Some(self.inode) {
            return self.reopen();
        }
        let mut numbers = self.directory.rotated();
        let next = numbers.last().map_or(1, |last| last.saturating_add(1));
        let fd = &self.directory.fd;
        rustix::fs::renameat(fd, CURRENT, fd, rotated_name(next))?;
        numbers.push(next);
        let kept = usize::try_from(files.saturating_sub(1)).unwrap_or(usize::MAX);
        for number in &numbers[..numbers.len().saturating_sub(kept)] {
            // The next rotation tries again.
            let _ = rustix::fs::unlinkat(fd, rotated_name(*number), rustix::fs::AtFlags::empty());
        }
        self.reopen()
    }

    /// Writes whole records. On an error, the part of a record that the disk took is removed again.
    fn write(&mut self, records: &[u8]) -> (usize, Option<Errno>) {
        let mut done = 0;
        while done < records.len() {
            match rustix::io::write(&self.current, &records[done..]) {
                Ok(0) => return (self.cut(records, done), Some(Errno::NOSPC)),
                Ok(n) => {
                    done += n;
                    self.size += n as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return (self.cut(records, done), Some(errno)),
            }
        }
        (done, None)
    }

    fn cut(&mut self, records: &[u8], done: usize) -> usize {
        let whole = records[..done].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let end = rustix::fs::tell(&self.current).unwrap_or(0);
        let size = rustix::fs::fstat(&self.current).map_or(0, |stat| stat.st_size.unsigned_abs());
        // Another log writer may have appended since; then the part stays.
        if done > whole && size == end {
            let _ = rustix::fs::ftruncate(&self.current, end - (done - whole) as u64);
        }
        whole
    }
}
