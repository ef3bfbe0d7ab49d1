//! The accept queue of a listener.

use std::os::fd::AsFd as _;

use rustix::io::Errno;

use super::raw_option;
use super::raw_option::SockOpt;
use crate::socket::worker_socket::WorkerSocket;

/// The length and the limit of an accept queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptQueue {
    /// Connections in the queue, without incomplete handshakes.
    pub waiting: u32,
    /// The backlog. The queue is full with one connection more; later clients retransmit their SYN.
    pub limit: u32,
}

impl WorkerSocket {
    /// Calls `listen(2)`. On a listening socket only the backlog changes. The kernel lowers the backlog
    /// to `net.core.somaxconn`; a negative one means that value.
    ///
    /// # Errors
    ///
    /// EADDRINUSE: another socket listens on the address. EOPNOTSUPP: not a stream socket.
    pub fn listen(&self, backlog: i32) -> Result<(), Errno> {
        rustix::net::listen(self.as_fd(), backlog)
    }

    /// Raises the backlog to 4,096 connections, or to `net.core.somaxconn` if that is less, for a time
    /// in which no worker accepts.
    ///
    /// # Errors
    ///
    /// Errors of [`Self::listen`].
    pub fn raise_backlog(&self) -> Result<(), Errno> {
        const BACKLOG: i32 = 4096;
        self.listen(BACKLOG)
    }

    /// The accept queue of this TCP listener (`TCP_INFO`, `tcp(7)`, Linux 2.6.12).
    ///
    /// # Errors
    ///
    /// EINVAL: the socket does not listen. EOPNOTSUPP: not a TCP socket.
    pub fn accept_queue(&self) -> Result<AcceptQueue, Errno> {
        // `struct tcp_info`: eight bytes, then words. For a listener, `tcpi_unacked` is the length of
        // the queue and `tcpi_sacked` its limit.
        const UNACKED: usize = 24;
        const SACKED: usize = 28;
        if !self.is_listening()? {
            return Err(Errno::INVAL);
        }
        let mut info = [0; 32];
        let name = SockOpt { level: libc::IPPROTO_TCP, number: libc::TCP_INFO };
        raw_option::read(self.as_fd(), name, &mut info)?;
        let word = |at: usize| {
            let bytes = info.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map(|bytes| u32::from_ne_bytes(*bytes)).ok_or(Errno::INVAL)
        };
        Ok(AcceptQueue { waiting: word(UNACKED)?, limit: word(SACKED)? })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;
    use crate::socket::own_sockets::{duplicate, listener, until};

    #[test]
    fn the_queue_counts_connections_and_its_limit_can_be_raised() {
        let listener = listener("127.0.0.1:0");
        let held = duplicate(&listener);
        held.listen(5).unwrap();
        assert_eq!(held.accept_queue(), Ok(AcceptQueue { waiting: 0, limit: 5 }));
        let to = listener.local_addr().unwrap();
        let _clients: Vec<_> = (0..3).map(|_| TcpStream::connect(to).unwrap()).collect();
        until("all connections are queued", || {
            held.accept_queue() == Ok(AcceptQueue { waiting: 3, limit: 5 })
        });
        let _accepted = listener.accept().unwrap();
        held.raise_backlog().unwrap();
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let most: u32 = most.trim().parse().unwrap();
        assert_eq!(held.accept_queue(), Ok(AcceptQueue { waiting: 2, limit: most.min(4096) }));
    }

    #[test]
    fn sockets_without_a_queue_are_errors() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(duplicate(&udp).accept_queue().is_err());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(duplicate(&client).accept_queue(), Err(Errno::INVAL));
    }
}
