//! The members of one port, as a plan sees them.

use crate::model::name::RunName;
use crate::model::{Address, Protocol};

/// What is known about the members of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficFacts {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// One for each socket of the groups of the port, on every address.
    pub members: Vec<TrafficMember>,
    /// Why the index of a member in its group is not known, if it is not. Classic BPF names members by
    /// index; eBPF does not need it.
    pub order_unknown: Option<String>,
    /// Whether somebody admits new members when they are ready. If not, a new member is admitted when
    /// it joins.
    pub holds_newcomers: bool,
    /// The processors that are online.
    pub processors: Vec<Processor>,
}

impl TrafficFacts {
    /// Facts without a restriction: every index is known, and nobody admits new members.
    #[must_use]
    pub fn new(protocol: Protocol, members: Vec<TrafficMember>) -> Self {
        Self { protocol, members, order_unknown: None, holds_newcomers: false, processors: vec![] }
    }
}

/// One processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Processor {
    /// Its number.
    pub number: u32,
    /// Its NUMA node.
    pub node: u32,
}

/// One socket. Those that one process has on several addresses are one member of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficMember {
    /// The socket.
    pub socket: SocketId,
    /// Its address.
    pub address: Address,
    /// The process that serves it; the first process of a worker.
    pub pid: Option<i32>,
    /// Other processes that have it open. A pid in a selector is one of these too.
    pub others: Vec<i32>,
    /// The run of the process.
    pub run: Option<RunName>,
    /// The group of that run (`--group`).
    pub group: Option<RunName>,
    /// The number of the worker in the run, from 1.
    pub worker: Option<u16>,
    /// Whether it is ready and not drained.
    pub admitted: bool,
    /// Whether it is of the new version while a canary is in progress.
    pub canary: bool,
    /// The processor that the program chose for it (`SO_INCOMING_CPU`, socket(7)).
    pub incoming_cpu: Option<u32>,
    /// The NUMA node that its process is bound to.
    pub node: Option<u32>,
}

impl TrafficMember {
    /// An admitted socket of an unknown process.
    #[must_use]
    pub fn new(socket: SocketId, address: Address) -> Self {
        Self {
            socket,
            address,
            pid: None,
            others: vec![],
            run: None,
            group: None,
            worker: None,
            admitted: true,
            canary: false,
            incoming_cpu: None,
            node: None,
        }
    }

    /// Whether the process serves the socket.
    #[must_use]
    pub fn is_served_by(&self, pid: i32) -> bool {
        self.pid == Some(pid) || self.others.contains(&pid)
    }
}

/// A socket of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    /// Its inode.
    pub inode: u64,
    /// Its cookie (`SO_COOKIE`, Linux 4.12), if it was read.
    pub cookie: Option<u64>,
}

impl SocketId {
    /// What names the socket in a connection id of QUIC: the low half of its cookie. Any server can read
    /// it, and no two sockets of a group have the same one.
    #[must_use]
    pub fn name(&self) -> Option<u32> {
        self.cookie.and_then(|cookie| u32::try_from(cookie & u64::from(u32::MAX)).ok())
    }
}
