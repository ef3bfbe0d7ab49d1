//! The facts of one look.

use std::net::SocketAddr;
use std::time::Duration;

use sameport_addr::Address;

use crate::model::Process;
use crate::traffic::status::TrafficStatus;

/// What one look at the machine found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopLook {
    /// The time of the look, on a clock that never goes back.
    pub at: Duration,
    /// TCP listeners, and UDP sockets without a peer.
    pub listeners: Vec<TopListener>,
    /// The TCP connections to the ports of the listeners.
    pub connections: Vec<TopConnection>,
    /// The connections that this network namespace has accepted since its creation, of every port; `None` if
    /// unknown.
    pub passive_opens: Option<u64>,
    /// What is known about the policies of ports.
    pub traffic: Vec<TopTraffic>,
    /// Whether every socket has a visible process.
    pub complete: bool,
}

/// What a supervisor or the kernel said about a port.
#[derive(Debug, Clone, PartialEq)]
pub struct TopTraffic {
    /// The time of the answer, on the clock of the looks.
    pub at: Duration,
    /// The answer.
    pub status: TrafficStatus,
}

/// A socket that receives new connections or datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopListener {
    /// The bound address.
    pub address: Address,
    /// `SO_COOKIE`: unique among all sockets since boot.
    pub cookie: u64,
    /// The inode number.
    pub inode: u64,
    /// TCP: connections that wait for `accept`. UDP: bytes that wait for `recv`.
    pub queue: u32,
    /// The limit of the accept queue; 0 for UDP.
    pub backlog: u32,
    /// Dropped connections or datagrams since the creation of the socket; `None` if unknown.
    pub drops: Option<u32>,
    /// Whether a program selects the member of the group; `None` if unknown.
    pub steered: Option<bool>,
    /// The processes that have the socket open, by pid, without the supervisors of runs. Empty if they are
    /// hidden, or if only a supervisor has the socket.
    pub processes: Vec<Process>,
    /// The run whose supervisor has the socket open.
    pub kept_by: Option<String>,
    /// The worker of a named run that has the socket open.
    pub worker: Option<TopWorker>,
}

/// A worker of a named run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopWorker {
    /// The name of the run.
    pub run: String,
    /// The user of the run, if it is not the caller.
    pub user: Option<String>,
    /// Its number, from 1.
    pub number: u16,
    /// Its process among those that have the socket open.
    pub pid: i32,
    /// Its phase.
    pub phase: TopPhase,
    /// Restarts after a crash.
    pub restarts: u32,
}

/// The phase of a worker, as far as it concerns new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopPhase {
    /// Not ready.
    Starting,
    /// Serves.
    Ready,
    /// Gets no new connections.
    Draining,
}

/// A TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopConnection {
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// The local address.
    pub local: SocketAddr,
    /// Whether a process has accepted it.
    pub accepted: bool,
    /// The process that has it open, or the nearest ancestor of that process that has a listener open.
    pub owner: Option<i32>,
}
