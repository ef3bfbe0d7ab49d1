//! Access to a worker's sockets: duplicates of its descriptors.

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};

use super::worker_socket::WorkerSocket;
use crate::fd::ForeignFd;
use crate::fd::duplicate_from;
use crate::process::fd_table::{LastThread, open_thread};

/// The result of duplicating a worker's descriptor.
#[derive(Debug)]
pub enum SocketAccess {
    /// The duplicate.
    Socket(WorkerSocket),
    /// The descriptor is not open, or is no IPv4 or IPv6 socket: the call is the kernel's to answer.
    NotASocket,
    /// The ptrace rules forbid the access: the process is not dumpable, or Yama's `ptrace_scope` is 2
    /// or 3.
    Forbidden,
    /// The thread has its own descriptor table, which needs Linux 6.9.
    OwnTable,
    /// The thread has ended.
    Gone,
}

impl WorkerSocket {
    /// Duplicates descriptor `fd` of the thread `tid` (`pidfd_open(2)`, `pidfd_getfd(2)`, Linux 5.6;
    /// 6.9 for threads with their own descriptor table).
    ///
    /// Needs the right to ptrace the process: same user and dumpable, or CAP_SYS_PTRACE; with Yama's
    /// scope 1, this process must be an ancestor.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE: too many open descriptors. Refusals are values of [`SocketAccess`].
    pub fn from_thread(tid: i32, fd: i32) -> Result<SocketAccess, Errno> {
        if fd < 0 {
            // rustix panics for a negative descriptor in debug builds.
            return Ok(SocketAccess::NotASocket);
        }
        let pidfd = match open_thread(tid) {
            Ok(Some(pidfd)) => pidfd,
            Ok(None) => return Ok(SocketAccess::OwnTable),
            Err(Errno::SRCH | Errno::NOENT) => return Ok(SocketAccess::Gone),
            Err(errno) => return Err(errno),
        };
        match is_no_socket(tid, fd) {
            true => Ok(SocketAccess::NotASocket),
            false => Self::from_pidfd(&pidfd, fd),
        }
    }

    /// The same as [`Self::from_thread`], in fewer calls for the thread that made the last one.
    pub fn from_last_thread(
        last: &mut LastThread,
        tid: i32,
        fd: i32,
    ) -> Result<SocketAccess, Errno> {
        if fd < 0 || is_no_socket(tid, fd) {
            return Ok(SocketAccess::NotASocket);
        }
        if let Some(pidfd) = last.get(tid) {
            match Self::from_pidfd(pidfd, fd)? {
                SocketAccess::Gone => {}
                access => return Ok(access),
            }
        }
        match last.open(tid) {
            Ok(Some(pidfd)) => Self::from_pidfd(pidfd, fd),
            Ok(None) => Self::from_thread(tid, fd),
            Err(Errno::SRCH | Errno::NOENT) => Ok(SocketAccess::Gone),
            Err(errno) => Err(errno),
        }
    }

    fn from_pidfd(pidfd: &OwnedFd, fd: i32) -> Result<SocketAccess, Errno> {
        match duplicate_from(pidfd, fd) {
            Ok(fd) => Self::check(ForeignFd::new(fd)),
            Err(Errno::BADF) => Ok(SocketAccess::NotASocket),
            Err(Errno::PERM | Errno::ACCESS) => Ok(SocketAccess::Forbidden),
            Err(Errno::SRCH) => Ok(SocketAccess::Gone),
            Err(errno) => Err(errno),
        }
    }

    /// Asks about the descriptor what every file answers without a file system call, before the questions
    /// that are for sockets: `fstat(2)` waits for a file system that does not respond.
    fn check(fd: ForeignFd) -> Result<SocketAccess, Errno> {
        match fd.socket_kind() {
            Ok((AddressFamily::INET | AddressFamily::INET6, _)) => {
                let status = rustix::fs::fstat(&fd)?;
                let (inode, owner) = (status.st_ino, status.st_uid);
                Ok(SocketAccess::Socket(Self::new(fd, inode, owner)))
            }
            Ok(_) | Err(Errno::NOTSOCK) => Ok(SocketAccess::NotASocket),
            Err(errno) => Err(errno),
        }
    }
}

/// Whether a thread's descriptor certainly is no socket. The link tells it without a call of the file's
/// own file system; a duplicate of a file on one that does not respond could not be closed.
fn is_no_socket(tid: i32, fd: i32) -> bool {
    let mut link = [0; 32];
    let path = format!("/proc/{tid}/fd/{fd}");
    // Longer links are cut off. A link that cannot be read says nothing.
    let length = rustix::fs::readlinkat_raw(rustix::fs::CWD, path, &mut link[..]);
    length.is_ok_and(|length| !link[..length].starts_with(b"socket:["))
}

/// Checks, on this process itself, the calls that access a worker. The seccomp profile of a container
/// may forbid them although the ptrace rules permit the access.
///
/// # Errors
///
/// The call that failed, with its error.
pub fn check_worker_access() -> Result<(), (&'static str, Errno)> {
    let own_pid = rustix::process::getpid().as_raw_nonzero().get();
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None)
        .map_err(|errno| ("socket", errno))?;
    match WorkerSocket::from_thread(own_pid, socket.as_raw_fd()) {
        // A duplicate was made: that it is no IPv4 or IPv6 socket is not asked here.
        Ok(SocketAccess::Socket(_) | SocketAccess::NotASocket) => {}
        Ok(_) => return Err(("pidfd_getfd", Errno::PERM)),
        Err(errno) => return Err(("pidfd_getfd", errno)),
    }
    let byte = [1u8];
    let mut copy = [0u8];
    crate::process::read_memory(own_pid, byte.as_ptr().expose_provenance() as u64, &mut copy)
        .map_err(|errno| ("process_vm_readv", errno))
}
