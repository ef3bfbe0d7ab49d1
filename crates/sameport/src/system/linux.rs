//! Linux and Android: `SO_REUSEPORT` (Linux 3.9), balanced by a hash of the connection.
//!
//! The kernel compares the user who created each socket; root is not exempt. Measured on 6.18,
//! and read in `net/ipv4/inet_connection_sock.c` and `net/ipv4/udp.c`:
//!
//! - With `SO_REUSEADDR` as well, a UDP socket of *any* user may be bound over ours and takes all
//!   datagrams. So it is cleared and never set.
//! - TCP needs no `SO_REUSEADDR` to restart over connections in TIME-WAIT when the old and the new
//!   listener both have `SO_REUSEPORT`.
//! - For port 0, TCP never picks the port of a group. UDP with the option set may: two programs
//!   that each wanted a free port would share one. There the option is set once the port is ours;
//!   later members can join all the same.

use std::fs;
use std::io;

use sameport_addr::Address;
use sameport_addr::Protocol;
use socket2::SockRef;

use super::proc_net::{AddressHolder, holder};
use super::{BindRefusal, Role, SocketJob, kind_of};
use crate::error::ErrorKind;
use crate::support::{DualStack, Exclusive, JoinPolicy, Sharing, Support};

/// EAFNOSUPPORT, ENOPROTOOPT, EOPNOTSUPP of asm-generic; MIPS, SPARC and the like differ, and
/// there the error is told as it is.
pub(crate) const UNSUPPORTED: &[i32] = &[97, 92, 95];

/// The longest device name (`IFNAMSIZ` less the terminator). The kernel cuts a longer one short,
/// and would bind to the wrong device.
const DEVICE_NAME: usize = 15;

pub(crate) fn support() -> Support {
    Support {
        sharing: Sharing::Balanced,
        joiners: JoinPolicy::SameUser,
        exclusive: Exclusive::PlainBind,
        dual_stack: DualStack::OneSocket,
    }
}

pub(crate) fn share(socket: &SockRef<'_>, _job: &SocketJob) -> io::Result<()> {
    socket.set_reuse_address(false)?;
    socket.set_reuse_port(true)
}

pub(crate) fn waits_for_port(job: &SocketJob) -> bool {
    job.role == Role::Datagrams && job.address.port() == 0
}

pub(crate) fn exclude(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_reuse_address(false)?;
    socket.set_reuse_port(false)
}

/// `SO_BINDTODEVICE`: unprivileged since Linux 5.7, for a socket not yet bound to a device.
pub(crate) fn device(socket: &SockRef<'_>, name: &str, _ipv6: bool) -> io::Result<()> {
    if name.len() > DEVICE_NAME {
        return Err(io::ErrorKind::NotFound.into());
    }
    socket.bind_device(Some(name.as_bytes()))
}

/// `IP_TRANSPARENT`: needs CAP_NET_ADMIN or CAP_NET_RAW.
pub(crate) fn transparent(socket: &SockRef<'_>, ipv6: bool) -> io::Result<()> {
    if ipv6 { socket.set_ip_transparent_v6(true) } else { socket.set_ip_transparent_v4(true) }
}

/// `IP_FREEBIND`: unprivileged. Linux takes the IPv4 option on IPv6 sockets too; `IPV6_FREEBIND`
/// is its own name since 4.15.
pub(crate) fn freebind(socket: &SockRef<'_>, ipv6: bool) -> io::Result<()> {
    if ipv6 { socket.set_freebind_v6(true) } else { socket.set_freebind_v4(true) }
}

/// The kernel says EADDRINUSE to all alike; `/proc/net` tells whose socket is in the way.
pub(crate) fn refused(error: &io::Error, job: &SocketJob) -> BindRefusal {
    let kind = kind_of(error);
    if kind != ErrorKind::InUse {
        return kind.into();
    }
    let protocol = if job.tcp { Protocol::Tcp } else { Protocol::Udp };
    let mut wanted = Address::new(protocol, job.address);
    wanted.v6only = job.v6only;
    let mine = own_uid();
    match look(&wanted) {
        AddressHolder::Nobody => kind.into(),
        AddressHolder::Closing => BindRefusal {
            note: Some(
                "in use by connections that are still closing, after a listener that was not shared",
            ),
            ..kind.into()
        },
        AddressHolder::Held(uid) if mine.is_some_and(|mine| mine != uid) => {
            BindRefusal { kind: ErrorKind::InUseByAnotherUser, uid: Some(uid), note: None }
        }
        AddressHolder::Held(uid) => BindRefusal { uid: Some(uid), ..kind.into() },
    }
}

/// How often the tables are read until the holder shows up.
const LOOKS: usize = 5;

/// Reads the tables of the calling thread's network namespace. One that cannot be read shows
/// nobody, which leaves the plain kind.
///
/// The kernel writes a table a page at a time and finds its place again by counting, so a socket
/// closed in between can hide another one. Hence more than one look.
fn look(wanted: &Address) -> AddressHolder {
    let name = wanted.protocol.name();
    let tables =
        [format!("/proc/thread-self/net/{name}"), format!("/proc/thread-self/net/{name}6")];
    let mut found = AddressHolder::Nobody;
    for _ in 0..LOOKS {
        let texts = tables.each_ref().map(|table| fs::read_to_string(table).unwrap_or_default());
        found = holder(texts.iter().flat_map(|text| text.lines()), wanted);
        if found != AddressHolder::Nobody {
            break;
        }
    }
    found
}

/// The user that the kernel gives this thread's new sockets: the file system uid, fourth of four.
fn own_uid() -> Option<u32> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    uids.split_ascii_whitespace().nth(3)?.parse().ok()
}
