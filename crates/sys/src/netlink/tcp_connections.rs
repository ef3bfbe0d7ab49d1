//! The TCP connections of local ports, with the data that has passed.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use sameport_policy::model::Protocol;

use super::error::InspectError;
use super::inet_diag;
use super::inet_diag::{DiagId, DiagSocket};
use super::sock_diag;
use super::sock_diag::DiagRequest;

const ESTABLISHED: u8 = 1;
/// The peer has closed its sending side and may wait for an answer.
const CLOSE_WAIT: u8 = 8;

/// States of the other end meanwhile.
const FIN_WAIT_1: u8 = 4;
const FIN_WAIT_2: u8 = 5;

/// With more ports, one list of all ports is cheaper than one for each.
const PORTS_ONE_BY_ONE: usize = 4;

/// A TCP connection that a process has open, and on which it may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpConnection {
    /// Unique among all sockets since boot.
    pub cookie: u64,
    /// The inode of the socket.
    pub inode: u64,
    id: DiagId,
    /// The local port.
    pub port: u16,
    /// Received bytes that the process has not read.
    pub receive_queue: u32,
    /// Bytes that the peer has not acknowledged.
    pub send_queue: u32,
    /// Bytes of these that are not transmitted yet.
    pub unsent: u32,
    /// Received bytes.
    pub received: u64,
    /// Sent bytes, with retransmissions.
    pub sent: u64,
    /// Time since data was received, or since the connection was established. The kernel counts in
    /// jiffies: 1 to 10 ms.
    pub received_age: Duration,
    /// Time since data was sent, or since the connection was established.
    pub sent_age: Duration,
}

/// Lists the connections to these local ports that processes have open. Leaves out connections in an
/// accept queue, connections on which the process has shut down sending, connections of a process on
/// this machine that has closed its end, and MPTCP connections. Linux 4.19, no privilege.
///
/// # Errors
///
/// See [`InspectError`].
pub fn list_connections(ports: &BTreeSet<u16>) -> Result<Vec<TcpConnection>, InspectError> {
    let mut entries = list_on([ESTABLISHED, CLOSE_WAIT], ports, inet_diag::ASK_TCP_INFO)?;
    entries.retain(|entry| entry.inode != 0);
    if entries.iter().any(is_half_closed_here) {
        // A client that has closed its socket waits for nothing; after shutdown(2) it may.
        let waiting: HashSet<ConnectionEnds> = list([FIN_WAIT_1, FIN_WAIT_2], 0, 0)?
            .iter()
            .filter(|entry| entry.inode != 0)
            .map(|client| ((client.ip, client.port), (client.peer_ip, client.peer_port)))
            .map(canonical)
            .collect();
        entries.retain(|entry| {
            let client = ((entry.peer_ip, entry.peer_port), (entry.ip, entry.port));
            !is_half_closed_here(entry) || waiting.contains(&canonical(client))
        });
    }
    Ok(entries.iter().filter_map(connection).collect())
}

/// An established TCP connection, or one whose peer has closed its sending side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EstablishedConnection {
    /// Unique among all sockets since boot.
    pub cookie: u64,
    /// The inode of the socket; 0 while it waits for `accept`.
    pub inode: u64,
    /// The local address.
    pub local: SocketAddr,
}

/// Lists the connections to these local ports, also those that wait for `accept`. Needs no privilege.
///
/// # Errors
///
/// See [`InspectError`].
pub fn list_established(ports: &BTreeSet<u16>) -> Result<Vec<EstablishedConnection>, InspectError> {
    let entries = list_on([ESTABLISHED, CLOSE_WAIT], ports, 0)?;
    let entries = entries.iter().map(|entry| EstablishedConnection {
        cookie: entry.cookie,
        inode: entry.inode.into(),
        local: SocketAddr::new(entry.ip, entry.port),
    });
    Ok(entries.collect())
}

/// Reads known connections again, each in a few microseconds. A list takes milliseconds, because the
/// kernel walks the whole table.
#[derive(Debug)]
pub struct ConnectionReader(OwnedFd);

/// Whether netlink sockets are refused here, and lists come from `/proc/net`, which does not answer about a
/// single connection.
#[must_use]
pub fn reads_tables() -> bool {
    sock_diag::open().is_err_and(|error| error.is_refusal())
}

impl ConnectionReader {
    /// Opens a netlink socket.
    ///
    /// # Errors
    ///
    /// See [`InspectError`].
    pub fn open() -> Result<Self, InspectError> {
        let kernel = sock_diag::open();
        Ok(Self(kernel.map_err(|failure| InspectError::new(Protocol::Tcp, failure))?))
    }

    /// The connection now; `None` if it would not be in the list of [`list_connections`]. A connection of
    /// a process on this machine that has closed its end is not recognised.
    ///
    /// # Errors
    ///
    /// See [`InspectError`].
    pub fn read(&self, connection: &TcpConnection) -> Result<Option<TcpConnection>, InspectError> {
        let request = DiagRequest {
            protocol: libc::IPPROTO_TCP,
            family: libc::AF_INET,
            states: u32::MAX,
            port: 0,
        };
        let entry = request.one(connection.id, inet_diag::ASK_TCP_INFO, &self.0);
        let entry = entry.map_err(|failure| InspectError::new(Protocol::Tcp, failure))?;
        let is_open = |entry: &DiagSocket| {
            entry.inode != 0 && [ESTABLISHED, CLOSE_WAIT].contains(&entry.state)
        };
        Ok(entry.filter(is_open).as_ref().and_then(self::connection))
    }
}

/// The addresses of the two ends.
type ConnectionEnds = ((IpAddr, u16), (IpAddr, u16));

/// A dual-stack socket has IPv4 addresses in IPv6 form, and its other end may not.
fn canonical(((one, one_port), (other, other_port)): ConnectionEnds) -> ConnectionEnds {
    ((one.to_canonical(), one_port), (other.to_canonical(), other_port))
}

/// Whether the peer has closed its sending side, and its socket is on this machine.
fn is_half_closed_here(entry: &DiagSocket) -> bool {
    entry.state == CLOSE_WAIT && entry.peer_ip.to_canonical().is_loopback()
}

/// The connections to these local ports in these two states; with many ports, from one list of all.
fn list_on(
    states: [u8; 2],
    ports: &BTreeSet<u16>,
    attributes: u8,
) -> Result<Vec<DiagSocket>, InspectError> {
    let asked: Vec<u16> = match ports.len() {
        0..=PORTS_ONE_BY_ONE => ports.iter().copied().collect(),
        _ => vec![0],
    };
    let mut entries = Vec::new();
    for port in asked {
        entries.extend(list(states, port, attributes)?);
    }
    entries.retain(|entry| ports.contains(&entry.port));
    Ok(entries)
}

fn list(states: [u8; 2], port: u16, attributes: u8) -> Result<Vec<DiagSocket>, InspectError> {
    let request = DiagRequest {
        protocol: libc::IPPROTO_TCP,
        family: libc::AF_UNSPEC,
        states: states.iter().map(|state| 1 << state).sum(),
        port,
    };
    let entries = request.dump_with(attributes);
    entries.map_err(|failure| InspectError::new(Protocol::Tcp, failure))
}

fn connection(entry: &DiagSocket) -> Option<TcpConnection> {
    let traffic = entry.traffic?;
    // The FIN counts as a byte in both numbers.
    let fin = u32::from(entry.state == CLOSE_WAIT);
    Some(TcpConnection {
        cookie: entry.cookie,
        inode: entry.inode.into(),
        id: entry.id,
        port: entry.port,
        receive_queue: entry.receive_queue.saturating_sub(fin),
        send_queue: entry.send_queue,
        unsent: traffic.unsent,
        received: traffic.received.saturating_sub(fin.into()),
        sent: traffic.sent,
        received_age: Duration::from_millis(traffic.received_age.into()),
        sent_age: Duration::from_millis(traffic.sent_age.into()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;
    use crate::socket::until;

    fn one(port: u16) -> Option<TcpConnection> {
        let all = list_connections(&[port].into()).unwrap();
        assert!(all.len() < 2, "{all:?}");
        all.first().copied()
    }

    #[test]
    fn a_connection_is_listed_with_its_data() {
        let _turn = crate::serial::run_shared();
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert_eq!(one(port), None, "in the accept queue");
            let (mut server, _) = listener.accept().unwrap();
            let fresh = one(port).unwrap();
            assert_eq!((fresh.port, fresh.received, fresh.sent), (port, 0, 0));
            assert_eq!(fresh.received_age, fresh.sent_age);

            client.write_all(b"hello").unwrap();
            until("it has arrived", || one(port).unwrap().receive_queue == 5);
            assert_eq!((one(port).unwrap().received, one(port).unwrap().sent), (5, 0));
            server.read_exact(&mut [0; 5]).unwrap();
            assert_eq!(one(port).unwrap().receive_queue, 0);
            // More than two jiffies: the order of the next data is visible.
            std::thread::sleep(Duration::from_millis(30));
            server.write_all(b"answer").unwrap();
            until("it is acknowledged", || one(port).unwrap().send_queue == 0);
            let answered = one(port).unwrap();
            let reader = ConnectionReader::open().unwrap();
            let read = reader.read(&fresh).unwrap().unwrap();
            assert_eq!((read.cookie, read.received, read.sent), (fresh.cookie, 5, 6));
            assert_eq!((answered.received, answered.sent), (5, 6));
            assert!(answered.sent_age < answered.received_age, "{answered:?}");

            // A client that waits for the rest of the answer.
            client.shutdown(Shutdown::Write).unwrap();
            let halves = |it: TcpConnection| (it.cookie, it.received, it.receive_queue);
            until("the FIN has arrived", || server.peek(&mut [0]).is_ok_and(|read| read == 0));
            assert_eq!(halves(one(port).unwrap()), (fresh.cookie, 5, 0));
            server.shutdown(Shutdown::Write).unwrap();
            assert_eq!(one(port), None, "the server sends nothing more");
            assert_eq!(reader.read(&fresh).unwrap(), None);
            drop((client, server));
            assert_eq!(reader.read(&fresh).unwrap(), None);
        }
    }

    #[test]
    fn a_client_that_closed_its_socket_waits_for_nothing() {
        let _turn = crate::serial::run_exclusive();
        for at in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let port = listener.local_addr().unwrap().port();
            let ip = if at.contains("::1") { "::1" } else { "127.0.0.1" };
            let client = TcpStream::connect((ip, port)).unwrap();
            let (server, _) = listener.accept().unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            until("the FIN has arrived", || server.peek(&mut [0]).is_ok_and(|read| read == 0));
            assert!(one(port).is_some(), "{at}");
            drop(client);
            assert_eq!(one(port), None, "{at}");
        }
    }

    #[test]
    fn many_ports_are_asked_at_once() {
        let listeners: Vec<_> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ends = listeners.iter().map(|listener| {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap().0)
        });
        let _ends: Vec<_> = ends.collect();
        let ports: BTreeSet<u16> =
            listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert_eq!(list_connections(&ports).unwrap().len(), 6);
        assert_eq!(list_connections(&BTreeSet::new()).unwrap(), []);
    }
}
