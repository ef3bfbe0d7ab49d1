//! The pipe through which a worker's output comes.

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::fd::poll::poll_now;

/// Bytes that a pipe holds while its reader is busy or started again, if the user's limit
/// (`fs.pipe-user-pages-soft`) permits: the default of the kernel is 64 KiB.
const CAPACITY: usize = 256 * 1024;

/// A new pipe for a worker's standard output and error.
#[derive(Debug)]
pub struct OutputPipe {
    /// The end to read, non-blocking.
    pub reader: OwnedFd,
    /// The standard output.
    pub stdout: OwnedFd,
    /// The standard error: a description of its own, so that a worker that makes one non-blocking leaves the other.
    pub stderr: OwnedFd,
}

impl OutputPipe {
    /// Opens a pipe whose writers are readers too.
    ///
    /// A pipe without a reader kills its writer (SIGPIPE). A worker that has its own pipe open for reading waits
    /// instead, until another process opens the other end again (`fifo(7)`: Linux permits O_RDWR).
    ///
    /// `owner`: the user of the worker, if it is another one. Programs open `/dev/stdout` by its name.
    ///
    /// # Errors
    ///
    /// Errors of `pipe2(2)` and of `open(2)` of `/proc/self/fd`.
    pub fn open(owner: Option<u32>) -> Result<Self, Errno> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
        // A user with many workers gets smaller pipes.
        let _ = rustix::pipe::fcntl_setpipe_size(&reader, CAPACITY);
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let both = || rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let (stdout, stderr) = (both()?, both()?);
        if let Some(uid) = owner {
            // Without CAP_CHOWN, the worker writes to its descriptors and cannot open them by name.
            let _ = rustix::fs::fchown(&reader, Some(Uid::from_raw(uid)), None::<Gid>);
        }
        Ok(Self { reader, stdout, stderr })
    }
}

/// The inode of a pipe.
#[must_use]
pub fn inode_of(pipe: &OwnedFd) -> Option<u64> {
    rustix::fs::fstat(pipe).ok().map(|stat| stat.st_ino)
}

/// Reads what is in a pipe. 0: it has no writer.
///
/// # Errors
///
/// Errors of `read(2)`: EAGAIN if it is empty.
pub fn read_pipe(reader: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::read(reader, buffer)
}

/// Whether a pipe has no writer. Unread bytes may be left.
#[must_use]
pub fn is_hung_up(reader: &OwnedFd) -> bool {
    poll_now(reader).is_ok_and(|events| events.contains(rustix::event::PollFlags::HUP))
}

/// The end to read of the pipe with this inode, from a process that has it open. `None`: none of these processes
/// has it, or this process may not see their descriptors (`proc_pid_fd(5)`).
#[must_use]
pub fn read_end_of(inode: u64, pids: &[i32]) -> Option<OwnedFd> {
    let target = format!("pipe:[{inode}]");
    for pid in pids {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for entry in entries.flatten() {
            let is_it = std::fs::read_link(entry.path()).is_ok_and(|it| it.as_os_str() == &*target);
            if !is_it {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let opened = rustix::fs::open(entry.path(), flags, Mode::empty()).ok();
            // The number may be another file's by now.
            if let Some(fd) = opened.filter(|fd| inode_of(fd) == Some(inode)) {
                return Some(fd);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_without_a_reader_is_not_killed_and_its_bytes_are_found() {
        let OutputPipe { reader, stdout, stderr } = OutputPipe::open(None).unwrap();
        let inode = inode_of(&reader).unwrap();
        drop(reader);
        assert_eq!(rustix::io::write(&stdout, b"one "), Ok(4));
        assert_eq!(rustix::io::write(&stderr, b"two"), Ok(3));
        let reader = read_end_of(inode, &[std::process::id().cast_signed()]).unwrap();
        assert!(!is_hung_up(&reader));
        let mut bytes = [0; 16];
        assert_eq!(rustix::io::read(&reader, &mut bytes), Ok(7));
        assert_eq!(&bytes[..7], b"one two");
        // The end that was found may be the worker's own description, opened anew: only the writers count.
        assert_eq!(rustix::io::read(&reader, &mut bytes), Err(Errno::AGAIN));
        drop((stdout, stderr));
        assert!(is_hung_up(&reader));
        assert_eq!(rustix::io::read(&reader, &mut bytes), Ok(0));
        assert!(read_end_of(inode + 1_000_000, &[std::process::id().cast_signed()]).is_none());
    }

    #[test]
    fn the_two_outputs_are_independent_descriptions() {
        let OutputPipe { reader: _reader, stdout, stderr } = OutputPipe::open(None).unwrap();
        rustix::fs::fcntl_setfl(&stdout, OFlags::NONBLOCK).unwrap();
        assert!(!rustix::fs::fcntl_getfl(&stderr).unwrap().contains(OFlags::NONBLOCK));
    }
}
