//! Sockets from `/proc/self/net`, where `socket(AF_NETLINK)` is refused (`RestrictAddressFamilies=`).
//!
//! The tables show less: no device, no options, no cookie, no limit of a queue. IPV6_V6ONLY and the data of
//! a connection are read from a duplicate of the socket, where `pidfd_getfd` is permitted. Source:
//! proc_net(5), `net/ipv4/tcp_ipv4.c`, `net/ipv6/tcp_ipv6.c`.

use std::collections::{HashMap, HashSet};
use std::io;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags};

use super::inet_diag::{ASK_TCP_INFO, DiagId, DiagSocket, TcpTraffic};
use crate::fd::{ForeignFd, duplicate_from};
use crate::int_hash::IntSet;
use crate::proc::fd_scan;
use crate::socket::raw_option::tcp_info;

/// The unit of times in the tables (`USER_HZ`), in milliseconds.
const TICK: u32 = 10;

/// Which sockets to list: see `DiagRequest`.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableRequest {
    pub(super) protocol: libc::c_int,
    pub(super) family: libc::c_int,
    pub(super) states: u32,
    pub(super) port: u16,
}

/// Lists the matching sockets.
///
/// # Errors
///
/// Errors of reading the tables; ENOENT for another protocol than TCP and UDP.
pub(super) fn list(request: TableRequest, attributes: u8) -> io::Result<Vec<DiagSocket>> {
    let name = match request.protocol {
        libc::IPPROTO_TCP => "tcp",
        libc::IPPROTO_UDP => "udp",
        _ => return Err(io::ErrorKind::NotFound.into()),
    };
    let mut sockets = Vec::new();
    for (family, suffix) in [(libc::AF_INET, ""), (libc::AF_INET6, "6")] {
        if ![family, libc::AF_UNSPEC].contains(&request.family) {
            continue;
        }
        match read_table(&format!("/proc/self/net/{name}{suffix}")) {
            Ok(table) => sockets.extend(table.lines().filter_map(read_line)),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && suffix == "6" => {}
            Err(error) => return Err(error),
        }
    }
    // A table that changes while it is read in several parts can have a socket twice.
    let mut seen = HashSet::new();
    sockets.retain(|socket| {
        let DiagSocket { inode, ip, port, peer_ip, peer_port, .. } = *socket;
        request.states & 1 << socket.state != 0
            && (request.port == 0 || port == request.port)
            && seen.insert((inode, ip, port, peer_ip, peer_port))
    });
    if request.protocol == libc::IPPROTO_TCP {
        // The column is another number there.
        sockets.iter_mut().for_each(|socket| socket.drops = None);
    }
    read_from_duplicates(&mut sockets, attributes & ASK_TCP_INFO != 0);
    Ok(sockets)
}

/// Reads in large parts: at each read the kernel may walk the rest of its hash table.
fn read_table(path: &str) -> io::Result<String> {
    const PART: usize = 64 * 1024;
    let mut file = std::fs::File::open(path)?;
    let mut table = Vec::new();
    loop {
        let read = table.len();
        table.resize(read + PART, 0);
        let count = file.read(&mut table[read..])?;
        table.truncate(read + count);
        if count == 0 {
            return Ok(String::from_utf8_lossy(&table).into_owned());
        }
    }
}

/// A line of a table; `None` for its head.
fn read_line(line: &str) -> Option<DiagSocket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (ip, port) = read_address(fields.get(1)?)?;
    let (peer_ip, peer_port) = read_address(fields.get(2)?)?;
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let (send_queue, receive_queue) = fields.get(4)?.split_once(':')?;
    let (_, expires) = fields.get(5)?.split_once(':')?;
    let state = hex(fields.get(3)?)?.to_le_bytes()[0];
    let inode = fields.get(9)?.parse().ok()?;
    Some(DiagSocket {
        state,
        ip,
        port,
        peer_ip,
        peer_port,
        interface: 0,
        // An inode identifies a socket while it is open.
        cookie: u64::from(inode),
        expires: hex(expires)?.saturating_mul(TICK),
        receive_queue: hex(receive_queue)?,
        send_queue: hex(send_queue)?,
        uid: fields.get(7)?.parse().ok()?,
        inode,
        v6only: false,
        cgroup: None,
        drops: fields.get(12).and_then(|drops| drops.parse().ok()),
        transparent: None,
        freebind: None,
        traffic: None,
        id: DiagId { family: 0, id: [0; 48] },
    })
}

/// `0100007F:1F90`: the words of the address in the machine's order, and the port.
fn read_address(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let word =
        |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

/// Adds what only the socket itself tells. A connection without that counts as one with a request in hand:
/// its worker is not ended before it is closed.
fn read_from_duplicates(sockets: &mut [DiagSocket], wants_traffic: bool) {
    let in_hand =
        TcpTraffic { sent_age: u32::MAX, received_age: 0, received: 1, sent: 0, unsent: 0 };
    let is_asked = |socket: &DiagSocket| {
        socket.inode != 0 && (wants_traffic || socket.ip == Ipv6Addr::UNSPECIFIED)
    };
    let wanted: IntSet<u64> =
        sockets.iter().filter(|socket| is_asked(socket)).map(|it| it.inode.into()).collect();
    if wanted.is_empty() {
        return;
    }
    let holders = fd_scan::scan_all(&wanted).of;
    let duplicates: HashMap<u64, ForeignFd> = holders
        .iter()
        .filter_map(|(inode, holders)| {
            let duplicates = holders.iter().filter_map(|it| duplicate(it.pid, it.descriptor));
            Some((*inode, duplicates.into_iter().next()?))
        })
        .collect();
    for socket in sockets.iter_mut().filter(|socket| is_asked(socket)) {
        let duplicate = duplicates.get(&u64::from(socket.inode));
        socket.v6only = duplicate.is_some_and(|it| sockopt::ipv6_v6only(it) == Ok(true));
        if wants_traffic {
            let read = duplicate.and_then(|it| TcpTraffic::read(&tcp_info(it)?));
            socket.traffic = Some(read.unwrap_or(in_hand));
        }
    }
}

fn duplicate(pid: i32, descriptor: i32) -> Option<ForeignFd> {
    let process = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    duplicate_from(process, descriptor).ok().map(ForeignFd::new)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;
    use crate::netlink::sock_diag::DiagRequest;

    const LISTEN: u32 = 1 << 10;
    const ESTABLISHED: u32 = 1 << 1;

    #[test]
    fn lines_are_read() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                    uid  timeout inode";
        assert_eq!(read_line(head), None);
        assert_eq!(read_line(""), None);
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000  \
                    1000        0 4711 1 0000000000000000 100 0 0 10 0";
        let socket = read_line(line).unwrap();
        assert_eq!((socket.ip, socket.port), ("127.0.0.1".parse().unwrap(), 8080));
        assert_eq!((socket.state, socket.receive_queue, socket.uid), (10, 2, 1000));
        assert_eq!((socket.inode, socket.cookie), (4711, 4711));
        let six = "  1: 00000000000000000000000001000000:0016 0000000000000000FFFF00000100007F:A3C4 \
                   06 00000000:00000000 03:00000176 00000000     0        0 0 3 0000000000000000";
        let socket = read_line(six).unwrap();
        assert_eq!((socket.ip, socket.port), ("::1".parse().unwrap(), 22));
        assert_eq!(socket.peer_ip, "::ffff:127.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!((socket.state, socket.expires, socket.inode), (6, 3740, 0));
        assert_eq!(read_line(&six.replace(":0016", ":10016")), None);
    }

    /// The table has the facts that the kernel's list has.
    #[test]
    fn the_tables_agree_with_sock_diag() {
        let _turn = crate::serial::run_shared();
        for at in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(("localhost", port))
                .or_else(|_| TcpStream::connect(("::1", port)))
                .unwrap();
            let _server = listener.accept().unwrap();
            let udp = UdpSocket::bind(at).unwrap();
            let udp_port = udp.local_addr().unwrap().port();
            for (protocol, family, states, port) in [
                (libc::IPPROTO_TCP, libc::AF_UNSPEC, LISTEN, port),
                (libc::IPPROTO_TCP, libc::AF_UNSPEC, ESTABLISHED, port),
                (libc::IPPROTO_UDP, libc::AF_INET, 1 << 7, udp_port),
                (libc::IPPROTO_UDP, libc::AF_INET6, 1 << 7, udp_port),
            ] {
                let request = TableRequest { protocol, family, states, port };
                let facts = |socket: &DiagSocket| {
                    let peer = (socket.peer_ip, socket.peer_port);
                    let queues = socket.receive_queue;
                    let v6only = socket.v6only && socket.ip == Ipv6Addr::UNSPECIFIED;
                    (socket.inode, socket.state, socket.ip, peer, queues, socket.uid, v6only)
                };
                let table: Vec<_> = list(request, 0).unwrap().iter().map(facts).collect();
                let diag = DiagRequest { protocol, family, states, port }.dump().unwrap();
                assert_eq!(table, diag.iter().map(facts).collect::<Vec<_>>(), "{at} {request:?}");
            }
            drop(client);
        }
    }

    #[test]
    fn the_data_of_a_connection_is_read_from_a_duplicate() {
        use std::io::{Read as _, Write as _};

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        let (protocol, family) = (libc::IPPROTO_TCP, libc::AF_INET);
        let request = TableRequest { protocol, family, states: ESTABLISHED, port };
        let all = list(request, ASK_TCP_INFO).unwrap();
        let [server] = &all[..] else { panic!("{all:?}") };
        let traffic = server.traffic.unwrap();
        assert_eq!((traffic.received, traffic.sent), (5, 0));
    }
}
