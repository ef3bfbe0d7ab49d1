//! Lets servers close idle connections, without losing a request.
//!
//! `shutdown(SHUT_RD)` on a duplicate of an idle keep-alive connection reads as the end of the input in
//! the server, which closes the connection; its client sees a clean end and connects anew. A server that
//! reads a request and then the end of the input aborts the request, as node and Go do. So no request
//! may arrive between the check and the server's `close`: until then the kernel drops the client's
//! packets (`IP_MINTTL`), and the client sends them again later, after the end of the connection.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::Shutdown;

use super::fd_alias::descriptor_inode;
use super::raw_option;
use super::raw_option::SockOpt;
use super::worker_access::SocketAccess;
use super::worker_socket::WorkerSocket;
use crate::netlink::TcpTraffic;

/// Time limit for the servers to close their connections. Packets of clients are dropped meanwhile.
const CLOSING: Duration = Duration::from_millis(100);

/// Interval at which the closing is checked.
const INTERVAL: Duration = Duration::from_millis(1);

/// Packets with a lower TTL or hop limit are dropped. Few systems send with 255.
const ALL: i32 = 255;

/// A connection that was idle when its data was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleConnection {
    /// A process that has it open.
    pub pid: i32,
    /// Its descriptor there.
    pub descriptor: i32,
    /// The inode of the socket.
    pub inode: u64,
    /// Received bytes.
    pub received: u64,
    /// Sent bytes, with retransmissions.
    pub sent: u64,
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseResult {
    /// It was shut down for receiving.
    ShutDown,
    /// Data has passed meanwhile, and it was left alone.
    InUse,
    /// It cannot be reached.
    Failed,
}

/// Shuts the connections down for receiving, except those with new data, and waits until their servers
/// have closed them, for at most 100 ms. Blocks: not for a thread that serves others. Linux 5.6, with the
/// rights of `pidfd_getfd(2)`.
#[must_use]
pub fn close_idle(connections: &[IdleConnection]) -> Vec<CloseResult> {
    let mut open = Vec::new();
    let mut results = Vec::new();
    for connection in connections {
        let (frozen, result) = match shut_down(connection) {
            Ok(Some(frozen)) => (Some(frozen), CloseResult::ShutDown),
            Ok(None) => (None, CloseResult::InUse),
            Err(_) => (None, CloseResult::Failed),
        };
        open.extend(frozen.map(|frozen| (connection, frozen)));
        results.push(result);
    }
    let begun = Instant::now();
    while !open.is_empty() && begun.elapsed() < CLOSING {
        // The client learns of the end when the last descriptor is closed: ours.
        open.retain(|(connection, _)| is_open(connection));
        std::thread::sleep(INTERVAL);
    }
    results
}

/// `None`: the connection is in use.
fn shut_down(connection: &IdleConnection) -> Result<Option<FrozenSocket>, Errno> {
    let socket = match WorkerSocket::from_thread(connection.pid, connection.descriptor)? {
        SocketAccess::Socket(socket) if socket.inode() == connection.inode => socket,
        _ => return Err(Errno::BADF),
    };
    let frozen = FrozenSocket::new(socket)?;
    let info = raw_option::tcp_info(&frozen.socket);
    let traffic = info.and_then(|info| TcpTraffic::read(&info)).ok_or(Errno::NOSYS)?;
    let is_same = (traffic.received, traffic.sent) == (connection.received, connection.sent);
    let unread = rustix::io::ioctl_fionread(frozen.socket.as_fd())?;
    // Sent data that the client has not acknowledged is sent again if necessary, after the close too.
    if !is_same || unread > 0 || traffic.unsent > 0 {
        return Ok(None);
    }
    rustix::net::shutdown(frozen.socket.as_fd(), Shutdown::Read)?;
    Ok(Some(frozen))
}

/// Whether the process has the connection open under this descriptor.
fn is_open(connection: &IdleConnection) -> bool {
    descriptor_inode(connection.pid, connection.descriptor) == Ok(connection.inode)
}

/// A socket that receives no packets until it is dropped.
struct FrozenSocket {
    socket: WorkerSocket,
    /// The options and their values before.
    before: Vec<(SockOpt, [u8; 4])>,
}

impl FrozenSocket {
    fn new(socket: WorkerSocket) -> Result<Self, Errno> {
        let options = [
            (libc::IPPROTO_IP, libc::IP_MINTTL, true),
            // IPv4 packets of a dual-stack socket obey the first option.
            (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, socket.is_v6()?),
        ];
        let mut frozen = Self { socket, before: Vec::new() };
        for (level, number, _) in options.into_iter().filter(|(.., applies)| *applies) {
            let name = SockOpt { level, number };
            let mut value = [0; 4];
            raw_option::read(frozen.socket.as_fd(), name, &mut value)?;
            frozen.before.push((name, value));
            raw_option::set(frozen.socket.as_fd(), name, &ALL.to_ne_bytes())?;
        }
        Ok(frozen)
    }
}

impl Drop for FrozenSocket {
    fn drop(&mut self) {
        for (name, value) in &self.before {
            // The kernel took the same value before.
            let _ = raw_option::set(self.socket.as_fd(), *name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd as _;

    use super::*;
    use crate::socket::own_sockets::{duplicate, until};

    /// A client and its server, after one request and its answer.
    fn ends(at: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(at).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"request").unwrap();
        server.read_exact(&mut [0; 7]).unwrap();
        server.write_all(b"answer").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
        (client, server)
    }

    fn idle(server: &TcpStream) -> IdleConnection {
        IdleConnection {
            pid: std::process::id().cast_signed(),
            descriptor: server.as_raw_fd(),
            inode: duplicate(server).inode(),
            received: 7,
            sent: 6,
        }
    }

    #[test]
    fn an_idle_connection_ends_cleanly() {
        let _turn = crate::serial::run_shared();
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let (mut client, mut server) = ends(at);
            let connection = idle(&server);
            let closing = std::thread::spawn(move || close_idle(&[connection]));
            assert_eq!(server.read(&mut [0]).unwrap(), 0, "the server reads the end");
            // A request that crosses the end is not delivered to the server.
            client.write_all(b"next").unwrap();
            server.set_nonblocking(true).unwrap();
            assert_eq!(server.read(&mut [0]).unwrap(), 0);
            drop(server);
            assert_eq!(closing.join().unwrap(), [CloseResult::ShutDown]);
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "a clean end");
        }
    }

    #[test]
    fn a_connection_in_use_is_left_alone() {
        let _turn = crate::serial::run_shared();
        let (mut client, mut server) = ends("127.0.0.1:0");
        let connection = idle(&server);
        let stale = IdleConnection { received: 6, ..connection };
        assert_eq!(close_idle(&[stale]), [CloseResult::InUse]);
        client.write_all(b"next").unwrap();
        until("it has arrived", || server.peek(&mut [0; 8]).unwrap() == 4);
        assert_eq!(close_idle(&[connection]), [CloseResult::InUse]);
        // The options are those of before: the rest arrives.
        let mut all = [0; 8];
        client.write_all(b"more").unwrap();
        server.read_exact(&mut all).unwrap();
        assert_eq!(&all, b"nextmore");
        server.write_all(b"!").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn another_socket_is_not_touched() {
        let _turn = crate::serial::run_shared();
        let (mut client, mut server) = ends("127.0.0.1:0");
        let connection = idle(&server);
        let other = IdleConnection { inode: connection.inode + 1, ..connection };
        let none = IdleConnection { descriptor: 100_000, ..connection };
        let file = IdleConnection { descriptor: 0, ..connection };
        let results = close_idle(&[other, none, file]);
        assert_eq!(results, [CloseResult::Failed; 3]);
        server.set_nonblocking(true).unwrap();
        assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        client.write_all(b"next").unwrap();
    }
}
