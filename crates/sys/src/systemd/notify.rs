//! Notifications to the service manager that started this process, with sockets for its file
//! descriptor store (`sd_notify(3)`).
//!
//! Sending never blocks: messages that the manager's datagram socket cannot take yet are queued.

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

/// A connection to the service manager.
#[derive(Debug)]
pub struct ServiceManager {
    socket: OwnedFd,
    address: SocketAddrUnix,
    /// Messages that the manager could not take yet, in order.
    unsent: Mutex<VecDeque<NotifyMessage>>,
}

/// A position in the sequence of messages (`sd_notify_barrier(3)`).
#[derive(Debug)]
pub struct NotifyBarrier(OwnedFd);

impl NotifyBarrier {
    /// Whether the manager has processed all earlier messages or has exited. It signals this by closing
    /// the descriptor of the barrier; systemd before 246 closes the descriptor without processing.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        poll_now(&self.0).is_ok_and(|events| events.contains(PollFlags::HUP))
    }
}

#[derive(Debug)]
struct NotifyMessage {
    text: String,
    fd: Option<OwnedFd>,
}

/// Messages that are queued for a manager that does not read.
const QUEUE_LIMIT: usize = 1024;

impl ServiceManager {
    /// The manager at NOTIFY_SOCKET: a path, or `@` followed by an abstract name. Sends nothing.
    ///
    /// # Errors
    ///
    /// EAFNOSUPPORT: another address family (`vsock:`). ENAMETOOLONG: longer than 107 bytes.
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

    /// Sends a message after all earlier ones, with a duplicate of `fd`.
    ///
    /// Errors are ignored: a manager that has exited, or refuses the message, cannot be replaced.
    pub fn send(&self, text: String, fd: Option<BorrowedFd<'_>>) {
        let fd = fd.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0)).transpose();
        // At the descriptor limit the manager does not keep the socket; the run continues.
        let Ok(fd) = fd else { return };
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        unsent.push_back(NotifyMessage { text, fd });
        self.send_queued(&mut unsent);
        unsent.truncate(QUEUE_LIMIT);
    }

    /// Sends a barrier after the messages so far.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE: too many open descriptors.
    pub fn barrier(&self) -> Result<NotifyBarrier, Errno> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        self.send("BARRIER=1".into(), Some(writer.as_fd()));
        Ok(NotifyBarrier(reader))
    }

    /// Sends the queued messages. Returns `false` if some are still queued.
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
        let fd = message.fd.as_ref().map(OwnedFd::as_fd);
        if fd.is_some() {
            control.push(SendAncillaryMessage::ScmRights(fd.as_slice()));
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
    fn paths_and_abstract_names_are_addresses() {
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
        // `recv` without space for control messages closes the descriptor.
        assert_eq!(received(&manager), "BARRIER=1");
        assert!(barrier.is_passed());
        drop(manager);
        assert!(service.barrier().unwrap().is_passed());
    }

    #[test]
    fn other_addresses_are_refused() {
        for (text, errno) in [("", Errno::AFNOSUPPORT), ("vsock:2:9", Errno::AFNOSUPPORT)] {
            assert_eq!(ServiceManager::at(text.as_ref()).unwrap_err(), errno);
        }
        let long = format!("/{}", "x".repeat(200));
        assert_eq!(ServiceManager::at(long.as_ref()).unwrap_err(), Errno::NAMETOOLONG);
    }

    #[test]
    fn queued_messages_are_sent_later_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let service = ServiceManager::at(path.as_os_str()).unwrap();
        let queue = std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap();
        let count = queue.trim().parse::<usize>().unwrap() + 20;
        assert!(count < QUEUE_LIMIT, "{count}");
        (0..count).for_each(|number| service.send(number.to_string(), None));
        assert!(!service.flush());
        for number in 0..count {
            assert_eq!(received(&manager), number.to_string());
            service.flush();
        }
        assert!(service.flush());
        drop(manager);
        service.send("dropped".into(), None);
        assert!(service.flush());
    }
}
