//! The words for what is on a port: address, socket, member, group.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;
use std::time::Duration;

pub use sameport_addr::Address;
pub use sameport_addr::Protocol;

/// What a socket does with its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocketState {
    /// TCP: it listens. UDP: it is bound and takes datagrams from everybody.
    Waiting,
    /// TCP: bound, and it neither listens nor is connected. Nobody is served, and the port is taken.
    Bound,
    /// It has a peer, and takes the port's traffic from that peer only.
    Connected,
}

impl SocketState {
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
    pub state: SocketState,
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
        let state = SocketState::Waiting;
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
        crate::bind::private::is_owner(self.uid)
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
    pub details: Option<ProcessDetails>,
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
pub struct ProcessDetails {
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
pub struct SocketOptions {
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
pub struct GroupPosition {
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
    pub options: Option<SocketOptions>,
    /// Its place in its group, where that could be read.
    pub position: Option<GroupPosition>,
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
