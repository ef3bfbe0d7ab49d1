//! Linux and Android: `SO_REUSEPORT` (Linux 3.9), balanced by a hash of the connection.
//!
//! The kernel compares the users that created the sockets; root is not exempt. Measured on Linux
//! 6.18, and read in `net/ipv4/inet_connection_sock.c` and `net/ipv4/udp.c`:
//!
//! - A UDP socket of any user can be bound over a socket that has both `SO_REUSEADDR` and
//!   `SO_REUSEPORT`, and then receives all datagrams. This crate therefore clears `SO_REUSEADDR`.
//! - TCP needs no `SO_REUSEADDR` to bind over connections in TIME-WAIT if the old and the new
//!   listener both have `SO_REUSEPORT`.
//! - For port 0, TCP never chooses the port of a group. UDP can do so if the socket has the option.
//!   A UDP socket on port 0 therefore gets the option after `bind`; others can join it then.

use std::fs;
use std::io;

use sameport_addr::{Address, Protocol};
use socket2::SockRef;

use super::System;
use super::proc_net::{PortOwner, find_owner};
use crate::error_kind::ErrorKind;
use crate::socket_job::{BindRefusal, Role, SocketJob};
use crate::support::{DualStack, Exclusive, JoinPolicy, Sharing, Support};

/// Bytes of the longest device name: `IFNAMSIZ` without the terminator. The kernel truncates a
/// longer name and would bind to another device.
const DEVICE_NAME: usize = 15;

/// Times that the tables of `/proc/net` are read until the owner is found.
const READS: usize = 5;

pub(crate) struct Linux;

pub(crate) use self::Linux as Here;

impl System for Linux {
    const UNSUPPORTED: &'static [i32] = &[libc::EAFNOSUPPORT, libc::ENOPROTOOPT, libc::EOPNOTSUPP];

    fn support() -> Support {
        Support {
            sharing: Sharing::Balanced,
            join_policy: JoinPolicy::SameUser,
            exclusive: Exclusive::PlainBind,
            dual_stack: DualStack::OneSocket,
        }
    }

    fn set_shared(socket: &SockRef<'_>, _job: &SocketJob) -> io::Result<()> {
        socket.set_reuse_address(false)?;
        socket.set_reuse_port(true)
    }

    fn set_exclusive(socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_reuse_address(false)?;
        socket.set_reuse_port(false)
    }

    fn shares_after_bind(job: &SocketJob) -> bool {
        job.role == Role::Datagram && job.address.port() == 0
    }

    /// `SO_BINDTODEVICE`, socket(7): unprivileged since Linux 5.7 if the socket has no device yet.
    fn set_device(socket: &SockRef<'_>, name: &str, _ipv6: bool) -> io::Result<()> {
        if name.len() > DEVICE_NAME {
            return Err(io::ErrorKind::NotFound.into());
        }
        socket.bind_device(Some(name.as_bytes()))
    }

    /// `IP_TRANSPARENT`, ip(7): needs CAP_NET_ADMIN or CAP_NET_RAW.
    fn set_transparent(socket: &SockRef<'_>, ipv6: bool) -> io::Result<()> {
        if ipv6 { socket.set_ip_transparent_v6(true) } else { socket.set_ip_transparent_v4(true) }
    }

    /// `IP_FREEBIND`, ip(7), or `IPV6_FREEBIND` (Linux 4.15): unprivileged.
    fn set_freebind(socket: &SockRef<'_>, ipv6: bool) -> io::Result<()> {
        if ipv6 { socket.set_freebind_v6(true) } else { socket.set_freebind_v4(true) }
    }

    /// EADDRINUSE has several causes. `/proc/net` shows the owner of the conflicting socket.
    fn explain(kind: ErrorKind, job: &SocketJob) -> BindRefusal {
        if kind != ErrorKind::InUse {
            return kind.into();
        }
        let protocol = if job.tcp { Protocol::Tcp } else { Protocol::Udp };
        let mut address = Address::new(protocol, job.address);
        address.v6only = job.v6only;
        let own = own_uid();
        match owner_of(&address) {
            PortOwner::None => kind.into(),
            PortOwner::TimeWait => BindRefusal {
                note: Some(
                    "in use by connections that are still closing, after a listener that was not shared",
                ),
                ..kind.into()
            },
            PortOwner::User(uid) if own.is_some_and(|own| own != uid) => {
                BindRefusal { kind: ErrorKind::InUseByAnotherUser, uid: Some(uid), note: None }
            }
            PortOwner::User(uid) => BindRefusal { uid: Some(uid), ..kind.into() },
        }
    }
}

/// Reads the tables of the calling thread's network namespace. An unreadable table counts as empty,
/// which leaves the error kind unchanged.
///
/// The kernel writes a table page by page and finds its position again by counting, so a socket
/// closed meanwhile can hide another one: an empty result is read again.
fn owner_of(address: &Address) -> PortOwner {
    let name = address.protocol.name();
    let tables =
        [format!("/proc/thread-self/net/{name}"), format!("/proc/thread-self/net/{name}6")];
    let mut owner = PortOwner::None;
    for _ in 0..READS {
        let read = |table: &String| fs::read_to_string(table).unwrap_or_default();
        let texts: Vec<String> = tables.iter().map(read).collect();
        owner = find_owner(texts.iter().flat_map(|text| text.lines()), address);
        if owner != PortOwner::None {
            break;
        }
    }
    owner
}

/// The owner of new sockets of this thread: the file system user id, the fourth of `Uid:` in
/// proc_pid_status(5).
fn own_uid() -> Option<u32> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    uids.split_ascii_whitespace().nth(3)?.parse().ok()
}
