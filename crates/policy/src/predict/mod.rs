//! What `bind(2)`, and then `listen(2)`, would answer, and who would get the traffic then.
//!
//! The rules are those of Linux 6.x: `inet_csk_get_port`, `inet_bind_conflict`,
//! `inet_rcv_saddr_equal`, `udp_lib_lport_inuse`, `__inet_lookup_listener`, `udp4_lib_lookup2` and
//! their IPv6 sisters. `tests/prediction` compares every claim with the kernel at hand. Where the
//! kernel's answer depends on what cannot be seen (an option of somebody else's socket, who came
//! first), the answer is a doubt that says on what.
//!
//! Not seen, and therefore not claimed: TCP sockets whose options or owner were changed after their
//! bind, or that are gone (the kernel remembers the last bind of a port that is in use); VRFs; programs
//! of a cgroup, and security modules, that refuse a bind on their own.

mod conflict;
mod known;
mod remedies;
mod traffic;

use std::net::IpAddr;

use crate::model::Address;

pub use conflict::{Conflict, Missing, ReuseFlag, Uncertainty, UnknownFact};
pub use known::existing_sockets;
pub use remedies::{Remedy, remedies};
pub use traffic::{TrafficEffect, TrafficOutcome};

/// A socket that somebody wants to open: bind it, and have a TCP one listen at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindRequest {
    /// Where. `v6only` is that of the socket, whatever its address.
    pub address: Address,
    /// Who makes the socket.
    pub uid: u32,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// `IP_TRANSPARENT`, or its IPv6 sister.
    pub transparent: bool,
    /// `IP_FREEBIND`, or its IPv6 sister.
    pub freebind: bool,
}

impl BindRequest {
    /// A socket without any option.
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

/// What the machine has to say before any other socket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortLimits {
    /// Whether the one who wishes may bind low ports: CAP_NET_BIND_SERVICE.
    pub may_bind_low: bool,
    /// Whether it may set `IP_TRANSPARENT`: CAP_NET_ADMIN or CAP_NET_RAW.
    pub may_be_transparent: bool,
    /// The first port that needs no privilege: `net.ipv4.ip_unprivileged_port_start`.
    pub unprivileged_port_start: u16,
    /// Whether the IP can be bound here, on the wish's device if it has one: a wildcard, or an
    /// address that an interface has.
    pub is_local: bool,
    /// `net.ipv4.ip_nonlocal_bind`, or `net.ipv6.ip_nonlocal_bind` for an IPv6 address.
    pub nonlocal_bind: bool,
    /// Whether the wish's device exists; true where it names none.
    pub device_exists: bool,
}

/// What a socket that is there already does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocketUse {
    /// It listens (TCP), or takes datagrams from everybody (UDP).
    Waiting,
    /// TCP: bound, neither listening nor connected.
    Bound,
    /// It has a peer.
    Connected,
    /// TCP: what is left of a connection for a minute. No process has it.
    TimeWait,
}

/// A socket that is there already, as far as it is known. Sockets of other ports and protocols may
/// be among them; they do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingSocket {
    /// Where it is bound.
    pub address: Address,
    /// What it does there.
    pub usage: SocketUse,
    /// The owner; of no meaning in [`Doing::TimeWait`].
    pub uid: u32,
    /// `SO_REUSEPORT`, if that is known.
    pub reuse_port: Option<bool>,
    /// `SO_REUSEADDR`, if that is known.
    pub reuse_address: Option<bool>,
}

/// What would happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// What the calls answer.
    pub result: PredictedResult,
    /// What becomes of the traffic that the wish and another socket could both take, should the wish be
    /// granted. Empty where it is refused. Sockets that are not named are not touched.
    pub effects: Vec<TrafficEffect>,
}

/// What the calls answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PredictedResult {
    /// `bind`, and `listen` at once after it, succeed.
    Granted,
    /// One of them does not.
    Refused(PredictedRefusal),
    /// It is granted if every one of these turns out well, and else refused: EADDRINUSE by `bind`.
    Uncertain(Vec<Uncertainty>),
}

/// Why not, in the order in which the kernel finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PredictedRefusal {
    /// `setsockopt(SO_BINDTODEVICE)`: ENODEV. There is no such interface.
    NoDevice,
    /// `setsockopt(IP_TRANSPARENT)`: EPERM. It needs CAP_NET_ADMIN or CAP_NET_RAW.
    NotTransparent,
    /// `bind`: EACCES. A low port needs CAP_NET_BIND_SERVICE.
    NeedsPrivilege,
    /// `bind`: EINVAL. An IPv4 address in IPv6 clothes, and a socket that refuses IPv4.
    MappedAndV6only,
    /// `bind`: EINVAL. A link-local address without its interface.
    NoScope,
    /// `bind`: EADDRNOTAVAIL. No interface has the IP.
    NotLocal,
    /// `bind`: EADDRINUSE. These are in the way, each of them by itself.
    InUse(Vec<Conflict>),
}

impl PredictedRefusal {
    /// The call that fails, and the name of its error.
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

/// Predicts. The port must not be 0: with that the kernel picks one that nobody has.
#[must_use]
pub fn predict(wish: &BindRequest, machine: &PortLimits, others: &[ExistingSocket]) -> Prediction {
    let verdict = match before_others(wish, machine) {
        Some(refused) => PredictedResult::Refused(refused),
        None => conflict::verdict(wish, others),
    };
    let effects = match verdict {
        PredictedResult::Refused(_) => vec![],
        PredictedResult::Granted | PredictedResult::Uncertain(_) => traffic::effects(wish, others),
    };
    Prediction { result: verdict, effects }
}

/// What is refused whoever else is there. The order of the two families differs.
fn before_others(wish: &BindRequest, machine: &PortLimits) -> Option<PredictedRefusal> {
    let ip = wish.address.socket.ip();
    let needs_privilege =
        wish.address.port() < machine.unprivileged_port_start && !machine.may_bind_low;
    let elsewhere =
        !machine.is_local && !machine.nonlocal_bind && !wish.freebind && !wish.transparent;
    let v6 = match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some(ip),
    };
    let mapped = v6.is_some_and(|ip| ip.to_ipv4_mapped().is_some());
    let scoped = wish.address.device.is_some()
        || matches!(wish.address.socket, std::net::SocketAddr::V6(at) if at.scope_id() != 0);
    let link_local = v6.is_some_and(|ip| ip.is_unicast_link_local());
    let checks = [
        (!machine.device_exists, PredictedRefusal::NoDevice),
        (wish.transparent && !machine.may_be_transparent, PredictedRefusal::NotTransparent),
        (v6.is_some() && needs_privilege, PredictedRefusal::NeedsPrivilege),
        (mapped && wish.address.v6only, PredictedRefusal::MappedAndV6only),
        (link_local && !scoped, PredictedRefusal::NoScope),
        (elsewhere, PredictedRefusal::NotLocal),
        (needs_privilege, PredictedRefusal::NeedsPrivilege),
    ];
    checks.into_iter().find_map(|(holds, refused)| holds.then_some(refused))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
