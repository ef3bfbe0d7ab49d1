//! Notifications from workers, which they send to NOTIFY_SOCKET (`sd_notify(3)`).
//!
//! Every process may write to the socket. The kernel states the sender (SCM_CREDENTIALS), and
//! messages from processes other than descendants are dropped.

#![expect(unsafe_code, reason = "recvmsg(2) can report pid 0, which rustix does not expect")]

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::errno::last_errno;
use crate::fd::ForeignFd;
use crate::process::tree::{ancestry, is_descendant};
use crate::socket::unix::autobind;

/// The assignments of a message that sameport uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifyState {
    /// `READY=1`: the worker serves, or serves again after a reload.
    pub ready: bool,
    /// `RELOADING=1`: the worker reloads its configuration.
    pub reloading: bool,
    /// `STOPPING=1`: the worker shuts down.
    pub stopping: bool,
    /// `MAINPID=`: the main process, a descendant of this process.
    pub main_pid: Option<i32>,
    /// `STATUS=`: text for the administrator.
    pub status: Option<String>,
}

/// A message and its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyRecord {
    /// The sender, its parent, and so on up to a child of this process.
    pub ancestry: Vec<i32>,
    /// The message.
    pub state: NotifyState,
}

/// The longest message that is read, in bytes, as in systemd.
const LONGEST: usize = 4096;

impl NotifyState {
    /// Parses a message. Skips unknown lines and lines that are not UTF-8.
    #[must_use]
    pub fn parse(message: &[u8]) -> Self {
        let mut state = Self::default();
        for line in message.split(|byte| *byte == b'\n') {
            let Some((name, value)) =
                std::str::from_utf8(line).ok().and_then(|l| l.split_once('='))
            else {
                continue;
            };
            match (name, value) {
                ("READY", "1") => state.ready = true,
                ("RELOADING", "1") => state.reloading = true,
                ("STOPPING", "1") => state.stopping = true,
                ("MAINPID", pid) => state.main_pid = pid.parse().ok().filter(|pid| *pid > 0),
                ("STATUS", status) => state.status = Some(status.to_owned()),
                _ => {}
            }
        }
        state
    }
}

/// The socket that receives messages.
#[derive(Debug)]
pub struct NotifySocket {
    socket: OwnedFd,
    name: OsString,
    /// The socket's file, removed on drop.
    file: Option<PathBuf>,
}

impl NotifySocket {
    /// Opens a socket with an abstract name that the kernel picks (`unix(7)`, autobind). Reachable
    /// from this network namespace only, without a file.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE: too many open descriptors.
    pub fn open() -> Result<Self, Errno> {
        let socket = socket()?;
        let name = [&b"@"[..], &autobind(&socket)?].concat();
        let name = OsStr::from_bytes(&name).to_owned();
        Ok(Self { socket, name, file: None })
    }

    /// Opens a socket at this path, which workers in other network namespaces reach too. Every user
    /// with access to the directory may write to it. The file is removed on drop.
    ///
    /// # Errors
    ///
    /// EADDRINUSE: the path exists. ENAMETOOLONG: the path is longer than 107 bytes.
    pub fn open_at(path: &Path) -> Result<Self, Errno> {
        let socket = socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        let opened = Self { socket, name: path.into(), file: Some(path.into()) };
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
        rustix::fs::chmod(path, mode)?;
        Ok(opened)
    }

    /// The value of NOTIFY_SOCKET for workers.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The received messages of descendants, without waiting: at most 256. The socket stays readable
    /// if there are more.
    ///
    /// The message of a sender that has been reaped is dropped, because its ancestry is unknown. That
    /// concerns a `systemd-notify` that does not wait (`--no-block`, or before systemd 246).
    ///
    /// Received descriptors (FDSTORE=1) are closed. This answers BARRIER=1 after the messages before
    /// it.
    pub fn take(&mut self) -> Vec<NotifyRecord> {
        let mut records = Vec::new();
        for _ in 0..256 {
            let mut message = [0; LONGEST];
            let received = match receive(self.socket.as_fd(), &mut message) {
                Ok(received) => received,
                Err(Errno::INTR) => continue,
                Err(_) => break,
            };
            // Before the descriptors are closed: the sender may exit as soon as they are.
            let ancestry = received.pid.and_then(ancestry);
            if let (Some(ancestry), Some(message)) = (ancestry, received.message) {
                let mut state = NotifyState::parse(&message);
                state.main_pid = state.main_pid.filter(|pid| is_descendant(*pid));
                records.push(NotifyRecord { ancestry, state });
            }
            drop(received.descriptors);
        }
        records
    }
}

impl AsFd for NotifySocket {
    /// Readable (level-triggered) when [`NotifySocket::take`] has a message to read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for NotifySocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // The directory may have been removed already.
            let _ = std::fs::remove_file(file);
        }
    }
}

fn socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_passcred(&socket, true)?;
    Ok(socket)
}

struct ReceivedBytes {
    /// The message, unless it was longer than the buffer.
    message: Option<Vec<u8>>,
    /// The sender; `None` if it is outside this pid namespace.
    pid: Option<i32>,
    descriptors: Vec<ForeignFd>,
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<ReceivedBytes, Errno> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // Space for the credentials and for 253 descriptors, the most that one message can carry.
    let mut control = [MaybeUninit::<u64>::uninit(); 192];
    // SAFETY: an all-zero `msghdr` is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header describes `buffer` and `control`, both borrowed for the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let length = usize::try_from(length).map_err(|_| last_errno())?;

    let mut received = ReceivedBytes { message: None, pid: None, descriptors: Vec::new() };
    if header.msg_flags & libc::MSG_TRUNC == 0 {
        received.message = buffer.get(..length).map(<[u8]>::to_vec);
    }
    // SAFETY: the kernel has written a list of complete control messages to `msg_control`, which
    // nothing changes during the walk by cmsg(3).
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !next.is_null() {
        // SAFETY: the pointer is not null, so it points to a complete message of the list, aligned.
        let message = unsafe { *next };
        // SAFETY: as above; the data follow the header.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: CMSG_LEN takes a length by value.
        let header_length = unsafe { libc::CMSG_LEN(0) } as usize;
        #[allow(clippy::unnecessary_cast, reason = "the type differs in musl")]
        let length = (message.cmsg_len as usize).saturating_sub(header_length);
        match (message.cmsg_level, message.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                // SAFETY: the data have the size of a `ucred`, for which all bit patterns are valid.
                let sender: libc::ucred = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                received.pid = Some(sender.pid).filter(|pid| *pid > 0);
            }
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for index in 0..length / size_of::<i32>() {
                    // SAFETY: the index is within the data of the message.
                    let number = unsafe { data.cast::<i32>().add(index) };
                    // SAFETY: the kernel has written a descriptor number there.
                    let number = unsafe { number.read_unaligned() };
                    // SAFETY: the kernel has just opened this descriptor, and nothing else owns it.
                    let received_fd = unsafe { OwnedFd::from_raw_fd(number) };
                    received.descriptors.push(ForeignFd::new(received_fd));
                }
            }
            _ => {}
        }
        // SAFETY: `next` is a message of the list that the header describes.
        next = unsafe { libc::CMSG_NXTHDR(&raw const header, next) };
    }
    Ok(received)
}

#[cfg(test)]
#[path = "notify_socket_tests.rs"]
mod tests;
