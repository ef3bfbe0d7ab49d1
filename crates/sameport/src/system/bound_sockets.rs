//! TCP sockets that are bound to an address and do not listen, from `sock_diag(7)`.
//!
//! Unprivileged. `/proc/net` omits these sockets. The kernel lists those that are not connected
//! since Linux 6.8 (`TCP_BOUND_INACTIVE`, `include/uapi/linux/inet_diag.h`); earlier kernels ignore
//! the bit of the request.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use sameport_addr::{Address, Protocol};
use socket2::{Domain, Socket, Type};

/// States of `include/net/tcp_states.h`.
const SYN_SENT: u8 = 2;
const SYN_RECV: u8 = 3;
const TIME_WAIT: u8 = 6;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;
const BOUND_INACTIVE: u8 = 13;

/// `NETLINK_SOCK_DIAG`, `SOCK_DIAG_BY_FAMILY`, and `NLM_F_REQUEST | NLM_F_DUMP`.
const SOCK_DIAG: i32 = 4;
const BY_FAMILY: u16 = 20;
const DUMP: u16 = 0x301;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// `IPPROTO_TCP`.
const TCP: u8 = 6;

/// Bytes of `struct nlmsghdr` and of `struct inet_diag_req_v2`.
const HEADER: usize = 16;
const REQUEST: usize = 56;
/// Offset of `idiag_uid` in `struct inet_diag_msg`; `idiag_inode` follows.
const UID: usize = 64;

/// Bytes of the largest part of a dump: the kernel writes at most 32 KiB.
const PART: usize = 1 << 16;

/// Time that one part of a dump may take. The kernel writes it during the call.
const PATIENCE: Duration = Duration::from_secs(10);

/// Dumps in a row that must be free of such sockets. A socket that connects during a dump can be in
/// neither half of it.
const DUMPS: usize = 2;

/// A program that lost the race for the address still has its bound socket for a moment.
const ROUNDS: usize = 5;
const PAUSE: Duration = Duration::from_millis(5);

/// One TCP socket of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BoundSocket {
    local: SocketAddr,
    state: u8,
    uid: u32,
    /// 0 if no process has the socket.
    inode: u32,
}

/// The owner of a socket of this network namespace that is bound to an address overlapping
/// `address`, does not listen, and could connect from the address.
///
/// `own` is the user whose connections are harmless: the listener before this one accepted them. A
/// connection of another user can be one of a bound socket. A part that cannot be read counts as
/// empty.
pub(super) fn intruder(address: &Address, own: Option<u32>) -> Option<u32> {
    let mut found = None;
    for round in 0..ROUNDS {
        if round > 0 {
            std::thread::sleep(PAUSE);
        }
        found = (0..DUMPS).find_map(|_| owner_in_dump(address, own));
        if found.is_none() {
            break;
        }
    }
    found
}

fn owner_in_dump(address: &Address, own: Option<u32>) -> Option<u32> {
    let sockets = [libc::AF_INET, libc::AF_INET6].map(|family| dump(family).unwrap_or_default());
    sockets.iter().flatten().find(|socket| socket.intrudes(address, own)).map(|socket| socket.uid)
}

impl BoundSocket {
    fn intrudes(&self, address: &Address, own: Option<u32>) -> bool {
        // The kernel reports `IPV6_V6ONLY` for some of these states only, so every `[::]` counts as
        // dual-stack; a socket on another device counts too.
        let overlaps = Address::new(Protocol::Tcp, self.local).overlaps(address);
        let can_connect = match self.state {
            LISTEN | TIME_WAIT => false,
            CLOSE | BOUND_INACTIVE | SYN_SENT | SYN_RECV => true,
            _ => own != Some(self.uid),
        };
        overlaps && can_connect && self.inode != 0
    }
}

/// The TCP sockets of one family, without listeners and connections in TIME-WAIT.
fn dump(family: i32) -> io::Result<Vec<BoundSocket>> {
    let mut netlink = Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::DGRAM,
        Some(socket2::Protocol::from(SOCK_DIAG)),
    )?;
    netlink.set_read_timeout(Some(PATIENCE))?;
    netlink.send(&request(family))?;
    let mut sockets = Vec::new();
    let mut buffer = vec![0; PART];
    loop {
        let length = netlink.read(&mut buffer)?;
        if parse_part(&buffer[..length], &mut sockets)? {
            return Ok(sockets);
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`. The kernel does not filter sockets that are bound
/// only by port, so the request names none.
fn request(family: i32) -> Vec<u8> {
    let states: u32 = (1..=BOUND_INACTIVE)
        .filter(|state| ![TIME_WAIT, LISTEN].contains(state))
        .fold(0, |bits, state| bits | 1 << state);
    let mut bytes = Vec::with_capacity(HEADER + REQUEST);
    bytes.extend(u32::try_from(HEADER + REQUEST).unwrap_or_default().to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([u8::try_from(family).unwrap_or_default(), TCP, 0, 0]);
    bytes.extend(states.to_ne_bytes());
    bytes.resize(HEADER + REQUEST, 0);
    bytes
}

/// Parses the messages of one part. Whether it was the last one.
fn parse_part(mut part: &[u8], sockets: &mut Vec<BoundSocket>) -> io::Result<bool> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    while part.len() >= HEADER {
        let length = u32_at(part, 0).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| (HEADER..=part.len()).contains(length));
        let message = &part[..length.ok_or_else(invalid)?];
        match u16::from_ne_bytes([message[4], message[5]]) {
            DONE => return Ok(true),
            ERROR => return Err(invalid()),
            _ => sockets.extend(parse_socket(&message[HEADER..])),
        }
        // Messages are aligned to 4 bytes.
        part = &part[(message.len().div_ceil(4) * 4).min(part.len())..];
    }
    Ok(false)
}

/// `struct inet_diag_msg`: family, state, timer, retransmits; ports; addresses; …; uid, inode.
fn parse_socket(message: &[u8]) -> Option<BoundSocket> {
    let (family, state) = (i32::from(*message.first()?), *message.get(1)?);
    let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let ip: IpAddr = if family == libc::AF_INET {
        <[u8; 4]>::try_from(message.get(8..12)?).ok().map(Ipv4Addr::from)?.into()
    } else {
        <[u8; 16]>::try_from(message.get(8..24)?).ok().map(Ipv6Addr::from)?.into()
    };
    let local = SocketAddr::new(ip, port);
    Some(BoundSocket { local, state, uid: u32_at(message, UID)?, inode: u32_at(message, UID + 4)? })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One message of a dump, as the kernel writes it.
    fn message(local: &str, state: u8, uid: u32, inode: u32) -> Vec<u8> {
        let local: SocketAddr = local.parse().unwrap();
        let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let mut bytes = vec![0; HEADER + UID + 8];
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        let body = &mut bytes[HEADER..];
        (body[0], body[1]) = (u8::try_from(family).unwrap(), state);
        body[4..6].copy_from_slice(&local.port().to_be_bytes());
        match local.ip() {
            IpAddr::V4(ip) => body[8..12].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => body[8..24].copy_from_slice(&ip.octets()),
        }
        body[UID..UID + 4].copy_from_slice(&uid.to_ne_bytes());
        body[UID + 4..].copy_from_slice(&inode.to_ne_bytes());
        bytes
    }

    #[test]
    fn sockets_that_could_connect_are_found() {
        const ESTABLISHED: u8 = 1;
        for (local, state, uid, inode, expected) in [
            ("127.0.0.1:8080", BOUND_INACTIVE, 33, 7, true),
            ("127.0.0.1:8080", CLOSE, 1000, 7, true),
            ("0.0.0.0:8080", SYN_SENT, 1000, 7, true),
            ("[::]:8080", BOUND_INACTIVE, 33, 7, true),
            ("[::ffff:127.0.0.1]:8080", SYN_RECV, 33, 7, true),
            ("127.0.0.1:8080", ESTABLISHED, 33, 7, true),
            // An accepted connection of the same user, one without a process, the listener itself.
            ("127.0.0.1:8080", ESTABLISHED, 1000, 7, false),
            ("127.0.0.1:8080", ESTABLISHED, 33, 0, false),
            ("127.0.0.1:8080", TIME_WAIT, 0, 0, false),
            ("127.0.0.1:8080", LISTEN, 1000, 7, false),
            // Other addresses.
            ("127.0.0.1:8081", BOUND_INACTIVE, 33, 7, false),
            ("127.0.0.2:8080", BOUND_INACTIVE, 33, 7, false),
            ("[::1]:8080", BOUND_INACTIVE, 33, 7, false),
        ] {
            let mut sockets = Vec::new();
            let mut part = message("[::1]:1", LISTEN, 0, 1);
            part.extend(message(local, state, uid, inode));
            assert!(!parse_part(&part, &mut sockets).unwrap());
            let address = Address::new(Protocol::Tcp, "127.0.0.1:8080".parse().unwrap());
            let found: Vec<_> =
                sockets.iter().filter(|it| it.intrudes(&address, Some(1000))).collect();
            assert_eq!(!found.is_empty(), expected, "{local} {state} {uid} {inode}");
            assert!(found.iter().all(|it| (it.uid, it.inode) == (uid, inode)));
        }
    }

    #[test]
    fn truncated_parts_are_errors() {
        let mut sockets = Vec::new();
        let whole = message("127.0.0.1:8080", CLOSE, 1, 2);
        for end in HEADER..whole.len() {
            assert!(parse_part(&whole[..end], &mut sockets).is_err(), "{end}");
        }
        let mut empty = whole.clone();
        empty[..4].copy_from_slice(&3_u32.to_ne_bytes());
        assert!(parse_part(&empty, &mut sockets).is_err());
        assert_eq!(sockets, []);
        let mut last = whole;
        last[4..6].copy_from_slice(&DONE.to_ne_bytes());
        assert!(parse_part(&last, &mut sockets).unwrap());
    }

    #[test]
    fn the_kernel_answers() {
        for family in [libc::AF_INET, libc::AF_INET6] {
            assert!(dump(family).unwrap().iter().all(|it| it.state != LISTEN));
        }
    }
}
