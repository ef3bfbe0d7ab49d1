//! References of a worker to a socket, from `/proc/TID/fd` and `/proc/TID/fdinfo`.

use rustix::fs::Stat;
use rustix::io::Errno;

use crate::errno::from_io;
use crate::socket::worker_socket::WorkerSocket;

/// A reference that would keep the worker on its socket after one descriptor is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FdAlias {
    /// An epoll set contains the socket. It would not contain the replacement.
    Epoll,
    /// Another descriptor of the worker refers to the same socket.
    Duplicate,
}

impl WorkerSocket {
    /// Finds a reference of the thread `tid` to this socket besides its descriptor `fd`. Reads the
    /// thread's descriptors once, which needs the right to ptrace it. Does not find copies in other
    /// processes.
    ///
    /// # Errors
    ///
    /// Errors of reading `/proc`. ENOENT, ESRCH: the thread has ended.
    pub fn find_alias(&self, tid: i32, fd: i32) -> Result<Option<FdAlias>, Errno> {
        let status = rustix::fs::fstat(self)?;
        let socket = format!("socket:[{}]", self.inode());
        let mut found = None;
        for entry in
            std::fs::read_dir(format!("/proc/{tid}/fd")).map_err(|error| from_io(&error))?
        {
            let entry = entry.map_err(|error| from_io(&error))?;
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let link = match std::fs::read_link(entry.path()).map_err(|error| from_io(&error)) {
                Ok(link) => link,
                // The descriptor has been closed meanwhile.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            };
            if link.as_os_str() == socket.as_str() && number != fd {
                found = Some(FdAlias::Duplicate);
            } else if link.as_os_str() == "anon_inode:[eventpoll]"
                && let Some(info) = fdinfo(tid, number)?
                && epoll_contains(&info, &status, fd)
            {
                return Ok(Some(FdAlias::Epoll));
            }
        }
        Ok(found)
    }
}

/// The inode of the socket that descriptor `fd` of the thread `tid` refers to, from `/proc/TID/fd/FD`.
/// Needs the right to ptrace the thread.
///
/// # Errors
///
/// ENOENT: the descriptor is not open, or the thread has ended. ENOTSOCK: it is not a socket. Other errors
/// of `readlink(2)`.
pub fn descriptor_inode(tid: i32, fd: i32) -> Result<u64, Errno> {
    let link =
        std::fs::read_link(format!("/proc/{tid}/fd/{fd}")).map_err(|error| from_io(&error))?;
    let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
    inode.and_then(|inode| inode.parse().ok()).ok_or(Errno::NOTSOCK)
}

/// Whether one of the first `most` descriptors of the thread `tid` refers to the socket with this inode.
/// Needs the right to ptrace the thread; without it, `false`.
#[must_use]
pub fn has_descriptor(tid: i32, inode: u64, most: usize) -> bool {
    let wanted = format!("socket:[{inode}]");
    let entries = std::fs::read_dir(format!("/proc/{tid}/fd")).into_iter().flatten().flatten();
    let mut links = entries.take(most).filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.any(|link| link.as_os_str() == wanted.as_str())
}

/// Whether the thread's descriptor has FD_CLOEXEC, from `/proc/TID/fdinfo/FD`.
///
/// # Errors
///
/// EBADF: the descriptor is not open, or the thread has ended. Other errors of reading `/proc`.
pub fn closes_on_exec(tid: i32, fd: i32) -> Result<bool, Errno> {
    let info = fdinfo(tid, fd)?.ok_or(Errno::BADF)?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.map(|flags| flags & libc::O_CLOEXEC != 0).ok_or(Errno::PROTO)
}

/// The `proc_pid_fdinfo(5)` file of a descriptor. `None`: the descriptor is not open.
fn fdinfo(tid: i32, fd: i32) -> Result<Option<String>, Errno> {
    match std::fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}"))
        .map_err(|error| from_io(&error))
    {
        Ok(info) => Ok(Some(info)),
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether the epoll set with this fdinfo contains the socket. A line of fdinfo is
/// `tfd: 5 events: 19 data: 5 pos:0 ino:1f sdev:8`; all numbers but the first are hexadecimal. Before
/// Linux 4.13, without `ino` and `sdev`, the descriptor number decides.
fn epoll_contains(info: &str, socket: &Stat, fd: i32) -> bool {
    info.lines().filter_map(|line| line.strip_prefix("tfd:")).any(|entry| {
        let field = |name: &str| {
            let (_, after) = entry.split_once(name)?;
            u64::from_str_radix(after.split_ascii_whitespace().next()?, 16).ok()
        };
        match (field("ino:"), field("sdev:")) {
            (Some(inode), Some(device)) => {
                inode == socket.st_ino && device == kernel_device(socket)
            }
            _ => entry.split_ascii_whitespace().next() == Some(&fd.to_string()),
        }
    })
}

/// The device number in the format of fdinfo: 12 bits for the major and 20 bits for the minor number.
fn kernel_device(status: &Stat) -> u64 {
    let (major, minor) = (rustix::fs::major(status.st_dev), rustix::fs::minor(status.st_dev));
    u64::from(major) << 20 | u64::from(minor)
}

#[cfg(test)]
#[path = "fd_alias_tests.rs"]
mod tests;
