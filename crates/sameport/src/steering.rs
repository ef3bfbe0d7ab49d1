//! The ways in which a system selects the member of a set for a connection or datagram.

use std::fmt;

/// The way in which the system selects the member of a [set](crate::Members) for a new connection
/// or a datagram.
///
/// `Display` writes one line in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Steering {
    /// By a hash of addresses and ports, among all sockets of the address, those of other processes
    /// too. Linux, FreeBSD 12 and DragonFly.
    Hash,
    /// By the processor that handles the packet: each member has one (`SO_INCOMING_CPU`, socket(7)).
    /// Packets on other processors are distributed by the hash. Linux 6.2 and later.
    ///
    /// The option belongs to a socket, so members of several processes can have it: two sets of one
    /// address, each with a member for a processor, share the connections of that processor. Sockets
    /// of the address that lack the option receive nothing from a processor for which a member has
    /// it. A BPF program on the group, of any process, has precedence.
    ///
    /// Between Linux 4.6 and 6.1, the kernel ignores the option on a group
    /// (`net/core/sock_reuseport.c`).
    IncomingCpu,
    /// By the processor that handles the packet: a classic BPF program on the group
    /// (`SO_ATTACH_REUSEPORT_CBPF`, socket(7)). Linux 4.6 for TCP, 4.5 for UDP; no privilege.
    ///
    /// The program belongs to the group and knows its members by position, so it requires that no
    /// other socket has the address. A single UDP socket on port 0 has no group: [`Steering::Hash`]. A
    /// socket that joins later receives only what arrives on processors without a member. The program
    /// stays in the group until the set removes it, also after the process was killed, while others are
    /// in the group.
    Program,
    /// All members are clones of one socket: each connection or datagram goes to the member that asks
    /// for it first. Every system.
    ///
    /// A fast member receives more than a slow one, and no connection waits for a busy member while
    /// another one is idle. All members have the options of the one socket: one queue, one blocking
    /// mode.
    OneQueue,
}

impl Steering {
    /// Whether members have processors.
    pub(crate) fn is_by_processor(self) -> bool {
        matches!(self, Self::IncomingCpu | Self::Program)
    }
}

impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hash => "by hash",
            Self::IncomingCpu => "by processor (SO_INCOMING_CPU)",
            Self::Program => "by processor (classic BPF)",
            Self::OneQueue => "one queue",
        })
    }
}
