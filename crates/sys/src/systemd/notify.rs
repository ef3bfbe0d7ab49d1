//! The service manager that started us: telling it things, and giving it sockets to keep
//! (`sd_notify(3)`).
//!
//! It listens on a datagram socket, and sees by its kernel who writes. A manager that is busy or gone
//! never makes us wait: what it has no room for yet is sent later.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Mutex, PoisonError};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};

use crate::fd::poll::poll_now;

/// The way to the service manager.
#[derive(Debug)]
pub struct ServiceManager {
    socket: OwnedFd,
    address: SocketAddrUnix,
    /// What it had no room for, in order.
    unsent: Mutex<VecDeque<NotifyMessage>>,
}

/// A moment in what a manager is told (`sd_notify_barrier(3)`).
#[derive(Debug)]
pub struct NotifyBarrier(OwnedFd);

impl NotifyBarrier {
    /// Whether the manager has acted on all that it was told before, or is gone. Older ones than
    /// systemd 246 do not know barriers, and close the descriptor that comes with it as well.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        poll_now(&self.0).is_ok_and(|events| events.contains(PollFlags::HUP))
    }
}

#[derive(Debug)]
struct NotifyMessage {
    text: String,
    with: Option<OwnedFd>,
}

/// How many messages wait for a manager that does not read.
const MOST: usize = 1024;

impl ServiceManager {
    /// The manager at NOTIFY_SOCKET: a path, or `@` and an abstract name. Nothing is sent.
    ///
    /// # Errors
    ///
    /// EAFNOSUPPORT: another kind of address (`vsock:`). ENAMETOOLONG: longer than 107 bytes.
    pub fn at(notify_socket: &OsStr) -> Result<Self, Errno> {
        let address = match notify_socket.as_bytes() {
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
            path @ [b'/', ..] => SocketAddrUnix::new(path)?,
            _ => return Err(Errno::AFNOSUPPORT),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        Ok(Self { socket, address, unsent: Mutex::default() })
    }

    /// Tells it this, after all that was said before; with a descriptor, of which it gets a duplicate.
    ///
    /// A manager that is gone, or does not want to hear it, is not told; there is nobody else to ask.
    pub fn send(&self, text: String, with: Option<BorrowedFd<'_>>) {
        let with = with.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0)).transpose();
        // Without descriptors to spare a socket is not kept; everything else goes on.
        let Ok(with) = with else { return };
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        unsent.push_back(NotifyMessage { text, with });
        self.send_queued(&mut unsent);
        unsent.truncate(MOST);
    }

    /// Marks what was said so far.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE: too few descriptors.
    pub fn barrier(&self) -> Result<NotifyBarrier, Errno> {
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        self.send("BARRIER=1".into(), Some(theirs.as_fd()));
        Ok(NotifyBarrier(ours))
    }

    /// Sends what there was no room for; `false` if there is none still.
    pub fn flush(&self) -> bool {
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        self.send_queued(&mut unsent);
        unsent.is_empty()
    }

    fn send_queued(&self, unsent: &mut VecDeque<NotifyMessage>) {
        while let Some(message) = unsent.front() {
            match self.send_one(message) {
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Ok(()) | Err(_) => drop(unsent.pop_front()),
            }
        }
    }

    fn send_one(&self, message: &NotifyMessage) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let with = message.with.as_ref().map(OwnedFd::as_fd);
        if with.is_some() {
            control.push(SendAncillaryMessage::ScmRights(with.as_slice()));
        }
        let text = [IoSlice::new(message.text.as_bytes())];
        let (to, flags) = (&self.address, SendFlags::NOSIGNAL);
        rustix::net::sendmsg_addr(&self.socket, to, &text, &mut control, flags).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    fn received(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn it_is_told_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("sameport-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let cases = [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}").into()),
        ];
        for (manager, notify_socket) in cases {
            let service = ServiceManager::at(&notify_socket).unwrap();
            service.send("READY=1\n".into(), None);
            assert_eq!(received(&manager), "READY=1\n");
        }
    }

    #[test]
    fn a_barrier_is_passed_when_the_manager_has_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let service = ServiceManager::at(path.as_os_str()).unwrap();
        let barrier = service.barrier().unwrap();
        assert!(!barrier.is_passed());
        // Descriptors that are not asked for are closed.
        assert_eq!(received(&manager), "BARRIER=1");
        assert!(barrier.is_passed());
        drop(manager);
        assert!(service.barrier().unwrap().is_passed());
    }

    #[test]
    fn other_addresses_are_none() {
        for (text, errno) in [("", Errno::AFNOSUPPORT), ("vsock:2:9", Errno::AFNOSUPPORT)] {
            assert_eq!(ServiceManager::at(text.as_ref()).unwrap_err(), errno);
        }
        let long = format!("/{}", "x".repeat(200));
        assert_eq!(ServiceManager::at(long.as_ref()).unwrap_err(), Errno::NAMETOOLONG);
    }

    #[test]
    fn what_it_has_no_room_for_comes_later_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let service = ServiceManager::at(path.as_os_str()).unwrap();
        let room = std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap();
        let count = room.trim().parse::<usize>().unwrap() + 20;
        assert!(count < MOST, "{count}");
        (0..count).for_each(|number| service.send(number.to_string(), None));
        assert!(!service.flush());
        for number in 0..count {
            assert_eq!(received(&manager), number.to_string());
            service.flush();
        }
        assert!(service.flush());
        drop(manager);
        service.send("nobody".into(), None);
        assert!(service.flush());
    }
}
