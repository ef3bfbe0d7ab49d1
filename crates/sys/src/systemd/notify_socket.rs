//! What workers say of themselves over NOTIFY_SOCKET (`sd_notify(3)`).
//!
//! Anybody may write to the socket. Who it was is what the kernel says (SCM_CREDENTIALS), and only
//! those that we have started are heard.

#![expect(unsafe_code, reason = "a pid of 0, which rustix does not expect, comes with recvmsg(2)")]

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::errno::last_errno;
use crate::process::tree::{ancestry, is_descendant};

/// What a message says. What is in it beside this means nothing to us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifyState {
    /// `READY=1`: it serves, or serves again.
    pub ready: bool,
    /// `RELOADING=1`: it does not for a while.
    pub reloading: bool,
    /// `STOPPING=1`: it ends.
    pub stopping: bool,
    /// `MAINPID=`: the process that serves, one that we have started.
    pub main_pid: Option<i32>,
    /// `STATUS=`: a word for the reader, as the worker wrote it.
    pub status: Option<String>,
}

/// A message and who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyRecord {
    /// The sender, its parent, and so on up to the one that is our child.
    pub ancestry: Vec<i32>,
    /// What it says.
    pub state: NotifyState,
}

/// The longest message that is read, as for systemd.
const LONGEST: usize = 4096;

impl NotifyState {
    /// Reads a message; nothing in it that is not known, or not text.
    #[must_use]
    pub fn parse(message: &[u8]) -> Self {
        let mut said = Self::default();
        for line in message.split(|byte| *byte == b'\n') {
            let Some((name, value)) =
                std::str::from_utf8(line).ok().and_then(|l| l.split_once('='))
            else {
                continue;
            };
            match (name, value) {
                ("READY", "1") => said.ready = true,
                ("RELOADING", "1") => said.reloading = true,
                ("STOPPING", "1") => said.stopping = true,
                ("MAINPID", pid) => said.main_pid = pid.parse().ok().filter(|pid| *pid > 0),
                ("STATUS", status) => said.status = Some(status.to_owned()),
                _ => {}
            }
        }
        said
    }
}

/// Where messages arrive.
#[derive(Debug)]
pub struct NotifySocket {
    socket: OwnedFd,
    name: OsString,
    /// To be removed in the end.
    file: Option<PathBuf>,
}

impl NotifySocket {
    /// Opens a socket under a name that the kernel picks, which no file system has to hold and only
    /// our network namespace has.
    pub fn open() -> Result<Self, Errno> {
        let socket = socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed())?;
        let address = SocketAddrUnix::try_from(rustix::net::getsockname(&socket)?)?;
        let picked = address.abstract_name().ok_or(Errno::ADDRNOTAVAIL)?;
        let name = OsStr::from_bytes(&[b"@", picked].concat()).to_owned();
        Ok(Self { socket, name, file: None })
    }

    /// Opens a socket at this path, which a worker in another network namespace reaches too. All who
    /// get into the folder may write to it. The file is removed in the end.
    ///
    /// # Errors
    ///
    /// EADDRINUSE: something is there. ENAMETOOLONG: more than 107 bytes.
    pub fn open_at(path: &Path) -> Result<Self, Errno> {
        let socket = socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        let notices = Self { socket, name: path.into(), file: Some(path.into()) };
        let for_all = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
        rustix::fs::chmod(path, for_all)?;
        Ok(notices)
    }

    /// Registers it with the tokio runtime that is current, to wait for messages.
    pub fn into_async(self) -> std::io::Result<AsyncFd<Self>> {
        // SAFETY: `Notices` owns its descriptor and never exchanges it, so it stays open and the same
        // for as long as the `AsyncFd` has it.
        unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }.map_err(Into::into)
    }

    /// What to set NOTIFY_SOCKET to.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// What has come from processes that we have started. Never waits; at most 256 messages at once,
    /// then this is readable still.
    ///
    /// A sender that has been reaped since is nobody's, and not heard: so is a `systemd-notify` that
    /// does not wait (`--no-block`, or before systemd 246).
    ///
    /// Descriptors that come along (FDSTORE=1) are closed; so BARRIER=1 is answered once what was
    /// said before it has been taken.
    pub fn take(&mut self) -> Vec<NotifyRecord> {
        let mut notices = Vec::new();
        for _ in 0..256 {
            let mut message = [0; LONGEST];
            let received = match receive(self.socket.as_fd(), &mut message) {
                Ok(received) => received,
                Err(Errno::INTR) => continue,
                Err(_) => break,
            };
            // Before its descriptors are closed, which it may wait for in order to end.
            let from = received.pid.and_then(ancestry);
            if let (Some(from), Some(message)) = (from, received.whole) {
                let mut said = NotifyState::parse(&message);
                said.main_pid = said.main_pid.filter(|pid| is_descendant(*pid));
                notices.push(NotifyRecord { ancestry: from, state: said });
            }
            drop(received.descriptors);
        }
        notices
    }
}

impl AsFd for NotifySocket {
    /// Readable (level-triggered) when [`Notices::take`] would give something.
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
            // Gone already, with its folder.
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
    /// The message, if all of it has been read.
    whole: Option<Vec<u8>>,
    /// The sender; `None` if it is outside of our pid namespace.
    pid: Option<i32>,
    descriptors: Vec<OwnedFd>,
}

fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> Result<ReceivedBytes, Errno> {
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // Room for the credentials and more descriptors than one message can have (253).
    let mut control = [MaybeUninit::<u64>::uninit(); 192];
    // SAFETY: an all-zero `msghdr` is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header describes `into` and `control`, both borrowed for the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let length = usize::try_from(length).map_err(|_| last_errno())?;

    let mut received = ReceivedBytes { whole: None, pid: None, descriptors: Vec::new() };
    if header.msg_flags & libc::MSG_TRUNC == 0 {
        received.whole = into.get(..length).map(<[u8]>::to_vec);
    }
    // SAFETY: the kernel has made `msg_control` a list of complete messages, which is walked as
    // cmsg(3) says; none is changed meanwhile.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !next.is_null() {
        // SAFETY: not null, so it is one of the list, aligned and complete.
        let message = unsafe { *next };
        // SAFETY: as above; its data follow it.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: takes a length by value.
        let head = unsafe { libc::CMSG_LEN(0) } as usize;
        #[allow(clippy::unnecessary_cast, reason = "musl has another type for it")]
        let length = (message.cmsg_len as usize).saturating_sub(head);
        match (message.cmsg_level, message.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                // SAFETY: so many bytes are there, of which any make a `ucred`.
                let who: libc::ucred = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                received.pid = Some(who.pid).filter(|pid| *pid > 0);
            }
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for index in 0..length / size_of::<i32>() {
                    // SAFETY: within the message's data.
                    let place = unsafe { data.cast::<i32>().add(index) };
                    // SAFETY: the kernel has put a number there.
                    let number = unsafe { place.read_unaligned() };
                    // SAFETY: it is a descriptor that the kernel has just opened for us.
                    received.descriptors.push(unsafe { OwnedFd::from_raw_fd(number) });
                }
            }
            _ => {}
        }
        // SAFETY: `next` is one of the list that the header describes.
        next = unsafe { libc::CMSG_NXTHDR(&raw const header, next) };
    }
    Ok(received)
}

#[cfg(test)]
#[path = "notify_socket_tests.rs"]
mod tests;
