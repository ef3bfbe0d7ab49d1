//! The queue of connections that wait to be accepted.

use std::os::fd::AsFd as _;

use rustix::io::Errno;

use super::raw_option;
use super::raw_option::SockOpt;
use crate::socket::worker_socket::WorkerSocket;

/// How full a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptQueue {
    /// Connections in it. Those whose handshake is not complete do not count.
    pub waiting: u32,
    /// The backlog: with one more than these the queue is full, and newcomers try again later.
    pub limit: u32,
}

impl WorkerSocket {
    /// Calls listen(2), also on a socket that listens already: then only the backlog changes. The
    /// kernel lowers it to `net.core.somaxconn`; negative is as much as it will give.
    pub fn listen(&self, backlog: i32) -> Result<(), Errno> {
        rustix::net::listen(self.as_fd(), backlog)
    }

    /// Gives the queue all the room it can have, for a time in which nobody accepts: 4,096
    /// connections, or `net.core.somaxconn` if that is less.
    pub fn raise_backlog(&self) -> Result<(), Errno> {
        const ROOM: i32 = 4096;
        self.listen(ROOM)
    }

    /// How full the queue of this listening TCP socket is (`TCP_INFO`, Linux 2.6.12).
    ///
    /// # Errors
    ///
    /// EINVAL: it does not listen. EOPNOTSUPP: it is not TCP.
    pub fn accept_queue(&self) -> Result<AcceptQueue, Errno> {
        // struct tcp_info: eight bytes, then words; a listener's queue and limit are where
        // connections have unacknowledged and selectively acknowledged packets.
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
    fn the_queue_counts_who_waits_and_its_limit_can_be_raised() {
        let listener = listener("127.0.0.1:0");
        let held = duplicate(&listener);
        held.listen(5).unwrap();
        assert_eq!(held.accept_queue(), Ok(AcceptQueue { waiting: 0, limit: 5 }));
        let to = listener.local_addr().unwrap();
        let _clients: Vec<_> = (0..3).map(|_| TcpStream::connect(to).unwrap()).collect();
        until("all wait", || held.accept_queue() == Ok(AcceptQueue { waiting: 3, limit: 5 }));
        let _accepted = listener.accept().unwrap();
        held.raise_backlog().unwrap();
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let most: u32 = most.trim().parse().unwrap();
        assert_eq!(held.accept_queue(), Ok(AcceptQueue { waiting: 2, limit: most.min(4096) }));
    }

    #[test]
    fn what_has_no_queue_says_so() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(duplicate(&udp).accept_queue().is_err());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(duplicate(&client).accept_queue(), Err(Errno::INVAL));
    }
}
