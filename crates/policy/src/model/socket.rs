//! One kernel socket.

use std::net::SocketAddr;

use sameport_addr::Address;

use super::private_uid::is_private_uid;

/// How a socket uses its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocketState {
    /// TCP: it listens. UDP: it is bound and receives from every peer.
    Waiting,
    /// TCP: bound, neither listening nor connected. It occupies the port and serves no client.
    Bound,
    /// It has a peer, and receives the port's traffic from that peer only.
    Connected,
}

impl SocketState {
    /// `waiting`, `bound` or `connected`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Bound => "bound",
            Self::Connected => "connected",
        }
    }
}

/// One kernel socket, as reported by the operating system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// The bound address.
    pub address: Address,
    /// The inode number, as in `/proc/PID/fd`; unique within a network namespace.
    pub inode: u64,
    /// `SO_COOKIE`: unique among all sockets since boot; 0 if unknown.
    pub cookie: u64,
    /// How the socket uses the address.
    pub state: SocketState,
    /// The owner. The kernel compares it with the owner of a socket that binds the same address.
    pub uid: u32,
    /// TCP listeners: connections that wait for `accept`. Others: bytes that wait for `recv`.
    pub queue: u32,
    /// TCP listeners: the limit of the accept queue (the backlog of `listen`, capped by
    /// `net.core.somaxconn`). Others: 0.
    pub backlog: u32,
    /// Connections (TCP) or datagrams (UDP) that the kernel dropped at this socket since its
    /// creation, mostly because the queue was full. `None` if unknown.
    pub drops: Option<u32>,
    /// The id of the cgroup (version 2) in which the socket was created; `None` if unknown.
    pub cgroup: Option<u64>,
    /// `IP_TRANSPARENT` or `IPV6_TRANSPARENT`; `None` if the kernel does not report it.
    pub transparent: Option<bool>,
    /// `IP_FREEBIND` or `IPV6_FREEBIND`; `None` if the kernel does not report it.
    pub freebind: Option<bool>,
    /// The address of the peer; `None` without one.
    pub peer: Option<SocketAddr>,
    /// TCP: the peer has closed the connection, and the program has not (CLOSE_WAIT).
    pub peer_closed: bool,
}

impl Socket {
    /// A waiting socket on this address; everything else is unknown.
    #[must_use]
    pub fn new(address: Address, inode: u64, uid: u32) -> Self {
        Self {
            address,
            inode,
            cookie: 0,
            state: SocketState::Waiting,
            uid,
            queue: 0,
            backlog: 0,
            drops: None,
            cgroup: None,
            transparent: None,
            freebind: None,
            peer: None,
            peer_closed: false,
        }
    }

    /// Whether the socket belongs to a private group. Its owner is then not a real user.
    #[must_use]
    pub fn is_private(&self) -> bool {
        is_private_uid(self.uid)
    }
}

/// Socket options, as read with `getsockopt(2)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketOptions {
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// `IP_TRANSPARENT` or `IPV6_TRANSPARENT`.
    pub transparent: bool,
    /// `IP_FREEBIND` or `IPV6_FREEBIND`.
    pub freebind: bool,
    /// A filter (`SO_ATTACH_FILTER`, `SO_ATTACH_BPF`) selects what the socket receives.
    pub filter: bool,
}
