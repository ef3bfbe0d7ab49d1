//! Descriptors of files that another process created.
//!
//! `close(2)` of such a file can block: for the time of SO_LINGER if unsent data is left and no other
//! process has the socket open any more (`inet_release` in `net/ipv4/af_inet.c`), and for as long as a
//! file system does not respond (`flush` of FUSE). A [`ForeignFd`] is therefore closed on a thread of
//! its own, unless its close cannot block.

#![expect(unsafe_code, reason = "a descriptor is moved out of a value that is dropped")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::process::masked_thread;

/// The limit of closing threads. Each can be blocked.
const MOST_THREADS: usize = 256;

/// Stack of a closing thread, in bytes.
const STACK: usize = 64 * 1024;

/// A descriptor of another process's file, whose close does not block the thread that drops it.
#[derive(Debug)]
pub struct ForeignFd(ManuallyDrop<OwnedFd>);

/// Descriptors that wait to be closed.
#[derive(Debug)]
struct Closing {
    waiting: Mutex<Queue>,
    added: Condvar,
}

#[derive(Debug)]
struct Queue {
    fds: VecDeque<OwnedFd>,
    /// Number of threads, and of those that wait for a descriptor.
    threads: usize,
    idle: usize,
}

static CLOSING: Closing = Closing::new();

thread_local! {
    /// For a thread with a descriptor table of its own: a number of this table means nothing to the threads
    /// of [`CLOSING`].
    static OWN: Cell<Option<&'static Closing>> = const { Cell::new(None) };
}

/// Lets threads that this thread starts close what it drops: it has a descriptor table of its own.
pub(super) fn close_on_own_threads() {
    // The threads can be blocked when this thread ends.
    OWN.set(Some(Box::leak(Box::new(Closing::new()))));
}

impl ForeignFd {
    /// Takes a descriptor that another process may have sent, or that was copied from one.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self(ManuallyDrop::new(fd))
    }

    /// The address family and the type, if it is a socket. Makes no file system call, so that it does
    /// not block (`SO_DOMAIN`, Linux 2.6.32).
    ///
    /// # Errors
    ///
    /// ENOTSOCK: not a socket.
    pub fn socket_kind(&self) -> Result<(AddressFamily, SocketType), Errno> {
        Ok((sockopt::socket_domain(self)?, sockopt::socket_type(self)?))
    }

    /// Whether `close` returns at once: an IPv4 or IPv6 socket without SO_LINGER, or a pipe.
    fn closes_at_once(&self) -> bool {
        // Other files fail without a call of their file system.
        if rustix::pipe::fcntl_getpipe_size(self).is_ok() {
            return true;
        }
        let is_inet = matches!(
            self.socket_kind(),
            Ok((
                AddressFamily::INET | AddressFamily::INET6,
                SocketType::STREAM | SocketType::DGRAM
            ))
        );
        // With a time of 0, `close` resets the connection instead.
        is_inet && matches!(sockopt::socket_linger(self), Ok(None | Some(Duration::ZERO)))
    }
}

/// Whether so many descriptors wait for their close that no more should be taken from other processes.
#[must_use]
pub fn closes_are_stuck() -> bool {
    const MOST_WAITING: usize = 256;
    Closing::of_thread().queue().fds.len() >= MOST_WAITING
}

impl AsFd for ForeignFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for ForeignFd {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for ForeignFd {
    fn drop(&mut self) {
        let at_once = self.closes_at_once();
        // SAFETY: the descriptor is taken once, here, and nothing uses `self` after `drop`.
        let fd = unsafe { ManuallyDrop::take(&mut self.0) };
        match at_once {
            true => drop(fd),
            false => Closing::of_thread().close(fd),
        }
    }
}

impl Closing {
    const fn new() -> Self {
        let queue = Queue { fds: VecDeque::new(), threads: 0, idle: 0 };
        Self { waiting: Mutex::new(queue), added: Condvar::new() }
    }

    /// The one whose threads have the descriptor table of this thread.
    fn of_thread() -> &'static Self {
        OWN.get().unwrap_or(&CLOSING)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a descriptor to a thread that is not blocked. With all threads blocked, it waits for one.
    fn close(&'static self, fd: OwnedFd) {
        let mut queue = self.queue();
        queue.fds.push_back(fd);
        if queue.idle < queue.fds.len() && queue.threads < MOST_THREADS {
            queue.threads += 1;
            if masked_thread::start("closing", STACK, || self.close_all()).is_err() {
                // The descriptor waits for a thread that is there, or for the end of the process.
                queue.threads -= 1;
            }
        }
        drop(queue);
        self.added.notify_one();
    }

    fn close_all(&self) {
        let mut queue = self.queue();
        loop {
            while let Some(fd) = queue.fds.pop_front() {
                drop(queue);
                drop(fd);
                queue = self.queue();
            }
            if queue.idle > 0 {
                // One idle thread is enough.
                queue.threads -= 1;
                return;
            }
            queue.idle += 1;
            queue = self.added.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    /// A connection whose close waits for a minute: its peer does not read.
    fn lingering() -> (ForeignFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        client.set_nonblocking(true).unwrap();
        while client.write(&[0; 65536]).is_ok() {}
        socket2::SockRef::from(&client).set_linger(Some(Duration::from_secs(60))).unwrap();
        (ForeignFd::new(client.into()), peer)
    }

    #[test]
    fn only_a_socket_without_linger_closes_at_once() {
        let (lingers, _peer) = lingering();
        let udp = ForeignFd::new(std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into());
        let (unix, _other) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        assert_eq!(
            [lingers, udp, ForeignFd::new(unix.into()), ForeignFd::new(file.into())]
                .map(|fd| fd.closes_at_once()),
            [false, true, false, false]
        );
    }

    #[test]
    fn lingering_sockets_delay_neither_their_owner_nor_another_close() {
        let begun = Instant::now();
        let peers: Vec<_> = (0..5).map(|_| lingering()).map(|(_dropped, peer)| peer).collect();
        let (pipe, writer) = std::io::pipe().unwrap();
        CLOSING.close(pipe.into());
        // A pipe without a reader is an error for its writer.
        while (&writer).write(&[0]).is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(begun.elapsed() < Duration::from_secs(50));
        drop(peers);
    }
}
