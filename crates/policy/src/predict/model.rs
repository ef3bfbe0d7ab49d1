//! The input and the output of a prediction.

use crate::model::Address;

/// A socket to open: `bind(2)`, and for TCP `listen(2)` at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindRequest {
    /// The address. `v6only` is the socket's option, even if the address is not the wildcard.
    pub address: Address,
    /// The user who creates the socket.
    pub uid: u32,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// `IP_TRANSPARENT` or `IPV6_TRANSPARENT`.
    pub transparent: bool,
    /// `IP_FREEBIND` or `IPV6_FREEBIND`.
    pub freebind: bool,
}

impl BindRequest {
    /// A socket without options.
    #[must_use]
    pub fn plain(address: Address, uid: u32) -> Self {
        Self {
            address,
            uid,
            reuse_port: false,
            reuse_address: false,
            transparent: false,
            freebind: false,
        }
    }
}

/// Limits that apply before any other socket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortLimits {
    /// Whether the user may bind low ports: CAP_NET_BIND_SERVICE.
    pub may_bind_low: bool,
    /// Whether the user may set `IP_TRANSPARENT`: CAP_NET_ADMIN or CAP_NET_RAW.
    pub may_be_transparent: bool,
    /// `net.ipv4.ip_unprivileged_port_start`.
    pub unprivileged_port_start: u16,
    /// Whether the IP is a wildcard or an address of an interface (of the requested device, if any).
    pub is_local: bool,
    /// `net.ipv4.ip_nonlocal_bind`, or `net.ipv6.ip_nonlocal_bind` for an IPv6 address.
    pub nonlocal_bind: bool,
    /// Whether the requested device exists; true without a device.
    pub device_exists: bool,
}

/// How an existing socket uses its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocketUse {
    /// TCP: it listens. UDP: it receives from every peer.
    Waiting,
    /// TCP: bound, neither listening nor connected.
    Bound,
    /// It has a peer.
    Connected,
    /// TCP: the remains of a closed connection (TIME_WAIT, 60 seconds). No process has it open.
    TimeWait,
}

/// An existing socket. Sockets of other ports and protocols are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingSocket {
    /// The bound address.
    pub address: Address,
    /// How the socket uses the address.
    pub usage: SocketUse,
    /// The owner; ignored for [`SocketUse::TimeWait`].
    pub uid: u32,
    /// `SO_REUSEPORT`, if known.
    pub reuse_port: Option<bool>,
    /// `SO_REUSEADDR`, if known.
    pub reuse_address: Option<bool>,
}

/// A prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// The result of the calls.
    pub result: PredictedResult,
    /// The distribution of traffic that the new socket and an existing one could both receive. Empty
    /// if the request is refused. Sockets that are not listed are unaffected.
    pub effects: Vec<TrafficEffect>,
}

/// The result of `bind` and `listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PredictedResult {
    /// Both succeed.
    Granted,
    /// A call fails.
    Refused(PredictedRefusal),
    /// Both succeed if every one of these facts is favourable; else `bind` fails with EADDRINUSE.
    Uncertain(Vec<Uncertainty>),
}

/// The reason of a failure, in the order of the kernel's checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PredictedRefusal {
    /// `setsockopt(SO_BINDTODEVICE)`: ENODEV. The interface does not exist.
    NoDevice,
    /// `setsockopt(IP_TRANSPARENT)`: EPERM. It needs CAP_NET_ADMIN or CAP_NET_RAW.
    NotTransparent,
    /// `bind`: EACCES. A low port needs CAP_NET_BIND_SERVICE.
    NeedsPrivilege,
    /// `bind`: EINVAL. An IPv4-mapped address and `IPV6_V6ONLY`.
    MappedAndV6only,
    /// `bind`: EINVAL. A link-local address without an interface.
    NoScope,
    /// `bind`: EADDRNOTAVAIL. No interface has the IP.
    NotLocal,
    /// `bind`: EADDRINUSE. Each of these sockets is in conflict.
    InUse(Vec<Conflict>),
}

impl PredictedRefusal {
    /// The failing call and the name of its error.
    #[must_use]
    pub fn error(&self) -> (&'static str, &'static str) {
        match self {
            Self::NoDevice => ("setsockopt(SO_BINDTODEVICE)", "ENODEV"),
            Self::NotTransparent => ("setsockopt(IP_TRANSPARENT)", "EPERM"),
            Self::NeedsPrivilege => ("bind", "EACCES"),
            Self::MappedAndV6only | Self::NoScope => ("bind", "EINVAL"),
            Self::NotLocal => ("bind", "EADDRNOTAVAIL"),
            Self::InUse(_) => ("bind", "EADDRINUSE"),
        }
    }
}

/// A conflicting socket, and the missing conditions of each way to coexist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// The index of the existing socket.
    pub index: usize,
    /// Missing conditions for sharing by `SO_REUSEPORT`: at least one.
    pub share_lacks: Missing,
    /// Missing conditions for reuse by `SO_REUSEADDR`; `None` for a TCP listener, where reuse is
    /// impossible.
    pub reuse_lacks: Option<Missing>,
}

/// Missing conditions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missing {
    /// The option on the new socket.
    pub ours: bool,
    /// The option on the existing socket. False if unknown.
    pub theirs: bool,
    /// One owner for both.
    pub same_user: bool,
}

/// An option that lets two sockets have overlapping addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReuseFlag {
    /// `SO_REUSEADDR`
    ReuseAddress,
    /// `SO_REUSEPORT`
    ReusePort,
}

impl ReuseFlag {
    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReuseAddress => "reuse_address",
            Self::ReusePort => "reuse_port",
        }
    }
}

/// A decisive fact that is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncertainty {
    /// The index of the existing socket.
    pub index: usize,
    /// The unknown fact.
    pub unknown: UnknownFact,
}

/// An unknown fact about an existing socket, and its favourable value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnknownFact {
    /// One of these options is set.
    AnySet(Vec<ReuseFlag>),
    /// One of these options is set, or `IPV6_V6ONLY` was set on the listener that accepted the
    /// connection.
    V6onlyOrAnySet(Vec<ReuseFlag>),
    /// The kernel's lookup finds this socket before the conflicting ones. TCP: it was the last to
    /// bind or to listen. UDP: it was the last to bind, except that IPv6 sockets with `SO_REUSEPORT`
    /// come last.
    LookupOrder,
}

/// The effect on traffic that the new socket and an existing one could both receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficEffect {
    /// The index of the existing socket.
    pub index: usize,
    /// The traffic: the intersection of both addresses.
    pub address: Address,
    /// The receiver.
    pub outcome: TrafficOutcome,
}

/// The receiver of common traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrafficOutcome {
    /// Both, by a hash of each connection's addresses, or as a program on the group selects.
    Shared,
    /// The new socket. The existing one no longer receives it.
    Taken,
    /// The existing socket.
    Kept,
    /// Unknown.
    Unclear,
    /// The existing socket is bound and does not listen. The first of the two to listen receives the
    /// traffic, and `listen` fails with EADDRINUSE for the other.
    Race,
}

impl TrafficOutcome {
    /// The lower-case name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Taken => "taken",
            Self::Kept => "kept",
            Self::Unclear => "unclear",
            Self::Race => "race",
        }
    }
}
