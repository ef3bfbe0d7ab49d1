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

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use sameport_addr::{Address, Protocol};
use socket2::{SockFilter, SockRef, Socket};

use super::exclusive_listener;
use super::proc_net::{PortOwner, find_owner, sockets_of};
use super::{System, raw};
use crate::error_kind::ErrorKind;
use crate::socket_job::{BindRefusal, FailedCall, Role, SocketJob};
use crate::steering_program::{BY_HASH, Instruction};
use crate::support::{DualStack, Exclusive, JoinPolicy, Sharing, Support};

/// Bytes of the longest device name: `IFNAMSIZ` without the terminator. The kernel truncates a
/// longer name and would bind to another device.
const DEVICE_NAME: usize = 15;

/// Times that the tables of `/proc/net` are read until the owner is found.
const READS: usize = 5;

/// libc lacks it for some architectures that share the generic numbers.
const SO_DETACH_REUSEPORT_BPF: i32 = 68;

pub(crate) struct Linux;

pub(crate) use self::Linux as Here;

impl System for Linux {
    const UNSUPPORTED: &'static [i32] = &[libc::EAFNOSUPPORT, libc::ENOPROTOOPT, libc::EOPNOTSUPP];

    /// `reuseport_grow` of `net/core/sock_reuseport.c` doubles the array of a group from 128, up to a
    /// size that 16 bits can express.
    const MAX_MEMBERS: Option<usize> = Some(32_768);

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

    fn set_exclusive(socket: &SockRef<'_>, _job: &SocketJob) -> io::Result<()> {
        socket.set_reuse_address(false)?;
        socket.set_reuse_port(false)
    }

    fn is_shared(socket: &SockRef<'_>) -> io::Result<bool> {
        socket.reuse_port()
    }

    fn is_listening(socket: &SockRef<'_>) -> io::Result<bool> {
        raw::get(socket, libc::SOL_SOCKET, libc::SO_ACCEPTCONN).map(|value| value != 0)
    }

    fn bind_exclusive(socket: &Socket, job: &SocketJob) -> io::Result<()> {
        exclusive_listener::bind(socket, job.address)
    }

    fn listen_exclusive(socket: &Socket, job: &SocketJob, backlog: i32) -> Result<(), FailedCall> {
        exclusive_listener::listen(socket, job, backlog, own_uid())
    }

    /// The filter sees a packet from its TCP header on. Byte 13 has the flags.
    fn drop_new_connections(listener: &SockRef<'_>) -> io::Result<()> {
        const SYN: u32 = 0x02;
        const SYN_AND_ACK: u32 = 0x12;
        listener.attach_filter(&[
            // BPF_LD | BPF_B | BPF_ABS, BPF_ALU | BPF_AND | BPF_K, BPF_JMP | BPF_JEQ | BPF_K, and
            // twice BPF_RET | BPF_K: 0 bytes drop the packet.
            SockFilter::new(0x30, 0, 0, 13),
            SockFilter::new(0x54, 0, 0, SYN_AND_ACK),
            SockFilter::new(0x15, 0, 1, SYN),
            SockFilter::new(0x06, 0, 0, 0),
            SockFilter::new(0x06, 0, 0, u32::MAX),
        ])
    }

    fn shares_after_bind(job: &SocketJob) -> bool {
        job.role == Role::Datagram && job.address.port() == 0
    }

    fn device(socket: &SockRef<'_>) -> io::Result<String> {
        let name = socket.device()?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    fn is_transparent(socket: &SockRef<'_>, ipv6: bool) -> io::Result<bool> {
        if ipv6 { socket.ip_transparent_v6() } else { socket.ip_transparent_v4() }
    }

    fn is_freebind(socket: &SockRef<'_>, ipv6: bool) -> io::Result<bool> {
        if ipv6 { socket.freebind_v6() } else { socket.freebind_v4() }
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

    fn processors() -> Vec<usize> {
        let mask = raw::affinity().unwrap_or_default();
        (0..mask.len() * 8).filter(|cpu| mask[cpu / 8] & (1 << (cpu % 8)) != 0).collect()
    }

    /// Since Linux 6.2, `reuseport_select_sock_by_hash` of `net/core/sock_reuseport.c`.
    fn selects_by_incoming_cpu() -> bool {
        fs::read_to_string("/proc/sys/kernel/osrelease")
            .is_ok_and(|release| is_at_least(&release, (6, 2)))
    }

    /// `SO_INCOMING_CPU`, socket(7): Linux 4.4, unprivileged.
    fn set_incoming_cpu(socket: &SockRef<'_>, processor: Option<usize>) -> io::Result<()> {
        let number = processor.map_or(Ok(-1), i32::try_from);
        let number = number.map_err(|_| io::ErrorKind::InvalidInput)?;
        raw::set(socket, libc::SOL_SOCKET, libc::SO_INCOMING_CPU, number)
    }

    /// `SO_ATTACH_REUSEPORT_CBPF`, socket(7): Linux 4.6 (UDP 4.5), unprivileged.
    fn attach_program(member: &SockRef<'_>, program: &[Instruction]) -> io::Result<()> {
        let code: Vec<libc::sock_filter> = program.iter().map(filter).collect();
        raw::attach_program(member, &code)
    }

    /// `SO_DETACH_REUSEPORT_BPF`: Linux 5.3. Before, a program that selects by the hash takes the place
    /// of the other one.
    fn detach_program(member: &SockRef<'_>) -> io::Result<()> {
        match raw::set(member, libc::SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
                Self::attach_program(member, &BY_HASH)
            }
            result => result,
        }
    }

    fn inode(socket: &SockRef<'_>) -> Option<u64> {
        // The path of a descriptor leads to the socket itself.
        let path = format!("/proc/thread-self/fd/{}", socket.as_raw_fd());
        fs::metadata(path).ok().map(|socket| socket.ino())
    }

    fn others(job: &SocketJob, without: &BTreeSet<u64>) -> Option<usize> {
        let name = if job.tcp { Protocol::Tcp } else { Protocol::Udp }.name();
        let family = if job.address.is_ipv6() { "6" } else { "" };
        let table = format!("/proc/thread-self/net/{name}{family}");
        for _ in 0..READS {
            let lines = BufReader::new(fs::File::open(&table).ok()?).lines();
            let found = sockets_of(lines.map_while(io::Result::ok), job);
            // A socket that closes meanwhile can hide another one: see `owner_of`.
            if without.is_subset(&found) {
                return Some(found.len() - without.len());
            }
        }
        None
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
                    "in use for up to 60 s by closing connections of a listener with other options",
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

fn filter(instruction: &Instruction) -> libc::sock_filter {
    let Instruction { code, if_true, if_false, k } = *instruction;
    libc::sock_filter { code, jt: if_true, jf: if_false, k }
}

/// Whether a release, such as `6.18.44-arch1`, has at least this version.
fn is_at_least(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|found| found >= version)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared() {
        for (release, expected) in [
            ("6.18.44-fc-v857\n", true),
            ("6.2", true),
            ("6.1.0-18-amd64", false),
            ("5.15.0", false),
            ("10.0-rc1", true),
            ("7", false),
            ("", false),
        ] {
            assert_eq!(is_at_least(release, (6, 2)), expected, "{release}");
        }
    }
}
