//! The words for what is on a port: address, socket, member, group.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;
use std::time::Duration;

pub use crate::protocol::Protocol;

/// Where a socket is bound: protocol, IP, port, and the device it is confined to, if any.
///
/// Two sockets with equal addresses are in one group. Sockets with different addresses can still
/// compete for the same traffic: see [`Address::overlaps`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// IP and port. A link-local IPv6 address keeps its scope.
    pub socket: SocketAddr,
    /// Name of the interface the socket is bound to (`SO_BINDTODEVICE`), if it is.
    pub device: Option<String>,
    /// Whether the IPv6 wildcard refuses IPv4 (`IPV6_V6ONLY`). False for every other address,
    /// where the option has no meaning: Linux sets it by itself when a socket is bound to one
    /// IPv6 address.
    pub v6only: bool,
}

impl Address {
    /// An address that is not confined to a device, dual-stack if it is an IPv6 wildcard.
    #[must_use]
    pub fn new(protocol: Protocol, socket: SocketAddr) -> Self {
        Self { protocol, socket, device: None, v6only: false }
    }

    /// The port number.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.socket.port()
    }

    /// The IPv6 wildcard that also takes IPv4 traffic.
    #[must_use]
    pub fn is_dual_stack(&self) -> bool {
        self.socket.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !self.v6only
    }

    /// Whether some packet could be for both addresses, so that the kernel's conflict rules apply
    /// between them: same protocol and port, devices that do not exclude each other, and IPs of
    /// which one contains the other.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let devices_meet = match (&self.device, &other.device) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.protocol == other.protocol
            && self.port() == other.port()
            && devices_meet
            && (self.contains_ip_of(other) || other.contains_ip_of(self))
    }

    /// Whether this address is a proper part of the other, so that the kernel prefers it for all
    /// traffic the two could both take.
    #[must_use]
    pub fn is_within(&self, wider: &Self) -> bool {
        let as_wide = wider.contains_ip_of(self) && self.contains_ip_of(wider);
        let narrower_device = self.device.is_some() && wider.device.is_none();
        self.overlaps(wider)
            && wider.contains_ip_of(self)
            && (!as_wide || (narrower_device && self.socket == wider.socket))
    }

    fn contains_ip_of(&self, other: &Self) -> bool {
        if self.is_dual_stack() {
            return true;
        }
        let (mine, theirs) = (unmapped(self.socket.ip()), unmapped(other.socket.ip()));
        mine == theirs
            || (mine == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && theirs.is_ipv4())
            || (mine == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && theirs.is_ipv6())
    }
}

/// `::ffff:127.0.0.1` and `127.0.0.1` name the same traffic.
fn unmapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// `127.0.0.1:80`, `[::1]:80`; `*:80` for the wildcard of both families; `0.0.0.0%eth0:80` on a
/// device. The protocol is not part of it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An interface's name may have anything in it that is no space: it must not steer a terminal.
        let device = self.device.as_deref().map(str::escape_debug);
        let text = match (device, self.socket) {
            (None, _) if self.is_dual_stack() => format!("*:{}", self.port()),
            (Some(device), _) if self.is_dual_stack() => format!("*%{device}:{}", self.port()),
            (None, socket) => socket.to_string(),
            (Some(device), SocketAddr::V4(v4)) => format!("{}%{device}:{}", v4.ip(), v4.port()),
            (Some(device), SocketAddr::V6(v6)) => format!("[{}%{device}]:{}", v6.ip(), v6.port()),
        };
        f.pad(&text)
    }
}

/// What a socket does with its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// TCP: it listens. UDP: it is bound and takes datagrams from everybody.
    Waiting,
    /// TCP: bound, and it neither listens nor is connected. Nobody is served, and the port is taken.
    Bound,
    /// It has a peer, and takes the port's traffic from that peer only.
    Connected,
}

impl State {
    /// `waiting`, `bound`, `connected`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Bound => "bound",
            Self::Connected => "connected",
        }
    }
}

/// One kernel socket, as the operating system reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Where it is bound.
    pub address: Address,
    /// The inode number that `/proc/PID/fd` shows for it; unique in one network namespace.
    pub inode: u64,
    /// Unique among all sockets since the machine started (`SO_COOKIE`); 0 where it is not told.
    pub cookie: u64,
    /// What it does there.
    pub state: State,
    /// The user who created the socket: the one the kernel compares when another wants to join.
    pub uid: u32,
    /// TCP that listens: connections waiting to be accepted. Others: bytes waiting to be read.
    pub queue: u32,
    /// TCP that listens: the most connections that may wait (`listen`'s backlog, capped by the
    /// kernel). Others: always 0.
    pub backlog: u32,
    /// What the kernel has dropped at this socket since it was made, mostly because its queue was
    /// full. TCP: connections; UDP: datagrams. `None` where it is not told.
    pub drops: Option<u32>,
    /// The number of the cgroup (version 2) that it was made in, and belongs to for good; `None`
    /// where the kernel does not tell.
    pub cgroup: Option<u64>,
    /// `IP_TRANSPARENT`, or its IPv6 sister; `None` where the kernel does not tell everybody.
    pub transparent: Option<bool>,
    /// `IP_FREEBIND`, or its IPv6 sister; `None` where the kernel does not tell everybody.
    pub freebind: Option<bool>,
}

impl Socket {
    /// A socket that waits at this address, of which nothing else is known.
    #[must_use]
    pub fn new(address: Address, inode: u64, uid: u32) -> Self {
        let state = State::Waiting;
        Self {
            address,
            inode,
            cookie: 0,
            state,
            uid,
            queue: 0,
            backlog: 0,
            drops: None,
            cgroup: None,
            transparent: None,
            freebind: None,
        }
    }
}

impl Socket {
    /// Whether it is a private group's: its owner is no user, and says nothing of who has it open.
    #[must_use]
    pub fn is_private(&self) -> bool {
        crate::private::is_owner(self.uid)
    }
}

/// A process that has a socket open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its process id, in the namespace of the one who looked.
    pub pid: i32,
    /// Its name as the kernel has it (`/proc/PID/comm`), at most 15 bytes.
    pub program: String,
    /// What else is known of it; `None` where nobody asked.
    pub details: Option<Details>,
}

impl Process {
    /// A process of which no more is known.
    #[must_use]
    pub fn new(pid: i32, program: impl Into<String>) -> Self {
        Self { pid, program: program.into(), details: None }
    }
}

/// What is known of a process beyond its name, as far as the one who looked may see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Details {
    /// Its effective user.
    pub uid: Option<u32>,
    /// The process that started it, or that has adopted it.
    pub parent: Option<i32>,
    /// Program and arguments; the process can write over them. Empty where they are not known.
    pub command: Vec<String>,
    /// The file that it executes. Of an interpreter, the interpreter.
    pub executable: Option<PathBuf>,
    /// The path of its cgroup (version 2), as `/proc/PID/cgroup` writes it.
    pub cgroup: Option<String>,
    /// When it was started, since 1970.
    pub started: Option<Duration>,
}

/// The options of a socket, as read from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Options {
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// `IP_TRANSPARENT`, or its IPv6 sister.
    pub transparent: bool,
    /// `IP_FREEBIND`, or its IPv6 sister.
    pub freebind: bool,
    /// A filter of the socket's own (`SO_ATTACH_FILTER`, `SO_ATTACH_BPF`) decides what it takes.
    pub filter: bool,
}

/// Where a member stands in the kernel's group. Only root is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Its number in the group, from 0.
    pub index: u32,
    /// How many members the group has.
    pub of: u32,
    /// Whether a program, and not the kernel's hash, chooses among the members.
    pub steered: bool,
}

/// A socket together with what is known of who has it open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The socket.
    pub socket: Socket,
    /// Every process that could be seen to have it open, by pid. Empty when none could be seen,
    /// which is not the same as none.
    pub processes: Vec<Process>,
    /// The socket owner's login name, if the user database has one.
    pub user: Option<String>,
    /// Whether `SO_REUSEPORT` is set: `None` where it could not be read or inferred.
    pub shared: Option<bool>,
    /// Its options, where they could be read.
    pub options: Option<Options>,
    /// Its place in its group, where that could be read.
    pub position: Option<Position>,
    /// The path of the cgroup (version 2) that it was made in, as `/proc/PID/cgroup` writes it;
    /// where only its holder's is known, that one. `None` where it is not known, or nobody asked.
    pub cgroup: Option<String>,
}

impl Member {
    /// A socket of which nothing is known but what the kernel lists.
    #[must_use]
    pub fn new(socket: Socket) -> Self {
        Self {
            socket,
            processes: vec![],
            user: None,
            shared: None,
            options: None,
            position: None,
            cgroup: None,
        }
    }
}

/// All members of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The address they share.
    pub address: Address,
    /// Its members, at least one, ordered by their first pid.
    pub members: Vec<Member>,
}

/// Shorthand for tests and callers that have the parts.
#[must_use]
pub fn v4(ip: [u8; 4], port: u16) -> SocketAddr {
    SocketAddrV4::new(ip.into(), port).into()
}

/// Shorthand for tests and callers that have the parts.
#[must_use]
pub fn v6(ip: Ipv6Addr, port: u16) -> SocketAddr {
    SocketAddrV6::new(ip, port, 0, 0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(socket: SocketAddr) -> Address {
        Address::new(Protocol::Tcp, socket)
    }

    #[test]
    fn overlap_follows_the_kernel() {
        let any4 = tcp(v4([0, 0, 0, 0], 80));
        let any6 = tcp(v6(Ipv6Addr::UNSPECIFIED, 80));
        let only6 = Address { v6only: true, ..any6.clone() };
        let loop4 = tcp(v4([127, 0, 0, 1], 80));
        let loop6 = tcp(v6(Ipv6Addr::LOCALHOST, 80));
        let mapped = tcp(v6("::ffff:127.0.0.1".parse().unwrap(), 80));
        let on_lo = Address { device: Some("lo".into()), ..any4.clone() };
        let on_eth = Address { device: Some("eth0".into()), ..any4.clone() };
        let cases = [
            (&any4, &loop4, true),
            (&any4, &loop6, false),
            (&any4, &any6, true),
            (&any4, &only6, false),
            (&only6, &loop6, true),
            (&only6, &mapped, false),
            (&any6, &mapped, true),
            (&loop4, &mapped, true),
            (&loop4, &loop6, false),
            (&any4, &on_lo, true),
            (&on_lo, &on_eth, false),
        ];
        for (a, b, expected) in cases {
            assert_eq!(a.overlaps(b), expected, "{a} and {b}");
            assert_eq!(b.overlaps(a), expected, "{b} and {a}");
        }
        let udp = Address::new(Protocol::Udp, v4([127, 0, 0, 1], 80));
        assert!(!loop4.overlaps(&udp));
        assert!(!loop4.overlaps(&tcp(v4([127, 0, 0, 1], 81))));
    }

    #[test]
    fn addresses_read_as_people_write_them() {
        let any6 = tcp(v6(Ipv6Addr::UNSPECIFIED, 80));
        assert_eq!(any6.to_string(), "*:80");
        assert_eq!(Address { v6only: true, ..any6 }.to_string(), "[::]:80");
        let on_lo = Address { device: Some("lo".into()), ..tcp(v4([0, 0, 0, 0], 80)) };
        assert_eq!(on_lo.to_string(), "0.0.0.0%lo:80");
        let odd = Address { device: Some("\u{1b}[2J".into()), ..on_lo };
        assert_eq!(odd.to_string(), "0.0.0.0%\\u{1b}[2J:80");
        assert_eq!(tcp(v6(Ipv6Addr::LOCALHOST, 80)).to_string(), "[::1]:80");
    }
}
