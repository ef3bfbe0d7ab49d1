//! What a worker has to do with a socket, from its descriptors: /proc/TID/fd and fdinfo.

use std::collections::HashSet;
use std::io;

use rustix::fs::Stat;
use rustix::io::Errno;

use crate::inspect;
use crate::socket::worker_socket::WorkerSocket;

/// What would keep the worker on its new socket if the descriptor meant another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FdAlias {
    /// An epoll set knows the socket already, and not the one that would be put in its place.
    Epoll,
    /// Another descriptor of the worker means the same socket.
    Duplicate,
}

impl WorkerSocket {
    /// What ties the thread `tid` to this socket beside its descriptor `fd`. One pass over its
    /// descriptors, which needs the right to ptrace it; not seen are other processes with a copy.
    ///
    /// # Errors
    ///
    /// The error of reading `/proc`; ENOENT or ESRCH: the thread is gone.
    pub fn find_alias(&self, tid: i32, fd: i32) -> Result<Option<FdAlias>, Errno> {
        let status = rustix::fs::fstat(self)?;
        let socket = format!("socket:[{}]", self.inode());
        let mut found = None;
        for entry in std::fs::read_dir(format!("/proc/{tid}/fd")).map_err(errno)? {
            let entry = entry.map_err(errno)?;
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let link = match std::fs::read_link(entry.path()).map_err(errno) {
                Ok(link) => link,
                // Closed meanwhile: no tie.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            };
            if link.as_os_str() == socket.as_str() && number != fd {
                found = Some(FdAlias::Duplicate);
            } else if link.as_os_str() == "anon_inode:[eventpoll]"
                && let Some(info) = descriptor(tid, number)?
                && watches(&info, &status, fd)
            {
                return Ok(Some(FdAlias::Epoll));
            }
        }
        Ok(found)
    }

    /// Whether one of these processes has the socket open, in any of its threads. One that may not
    /// be looked at counts as having it.
    #[must_use]
    pub fn is_open_in(&self, pids: &[i32]) -> bool {
        inspect::is_open_in(&HashSet::from([self.inode()]), pids)
    }
}

/// Whether the thread's descriptor closes on exec.
///
/// # Errors
///
/// EBADF: it is not open, or the thread is gone. Otherwise the error of reading `/proc`.
pub fn closes_on_exec(tid: i32, fd: i32) -> Result<bool, Errno> {
    let info = descriptor(tid, fd)?.ok_or(Errno::BADF)?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.map(|flags| flags & libc::O_CLOEXEC != 0).ok_or(Errno::PROTO)
}

/// What the kernel tells of a descriptor (`proc_pid_fdinfo(5)`), if it is there.
fn descriptor(tid: i32, fd: i32) -> Result<Option<String>, Errno> {
    match std::fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).map_err(errno) {
        Ok(info) => Ok(Some(info)),
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether the epoll set that this tells of has the socket, whose descriptor is `fd`:
/// `tfd: 5 events: 19 data: 5 pos:0 ino:1f sdev:8`, all but the first number in hexadecimal.
/// Before Linux 4.13 there is nothing but the descriptor's number to go by.
fn watches(info: &str, socket: &Stat, fd: i32) -> bool {
    info.lines().filter_map(|line| line.strip_prefix("tfd:")).any(|watched| {
        let field = |name: &str| {
            let (_, after) = watched.split_once(name)?;
            u64::from_str_radix(after.split_ascii_whitespace().next()?, 16).ok()
        };
        match (field("ino:"), field("sdev:")) {
            (Some(inode), Some(device)) => {
                inode == socket.st_ino && device == kernel_device(socket)
            }
            _ => watched.split_ascii_whitespace().next() == Some(&fd.to_string()),
        }
    })
}

/// The device as the kernel itself writes it: twelve bits and twenty.
fn kernel_device(status: &Stat) -> u64 {
    let (major, minor) = (rustix::fs::major(status.st_dev), rustix::fs::minor(status.st_dev));
    u64::from(major) << 20 | u64::from(minor)
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
#[path = "fd_alias_tests.rs"]
mod tests;
