//! Whether two sockets may have overlapping addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::model::{
    BindRequest, Conflict, ExistingSocket, Missing, PredictedRefusal, PredictedResult, ReuseFlag,
    SocketUse, Uncertainty, UnknownFact,
};
use crate::model::{Address, Protocol};

/// How the new socket and an existing one coexist.
enum AddressOverlap {
    /// The addresses do not overlap, or both sockets allow the overlap.
    None,
    /// Both have `SO_REUSEPORT` and one owner.
    Shared,
    Conflict(Conflict),
    Unknown(UnknownFact),
}

/// The result of a bind, given the existing sockets.
pub(super) fn verdict(request: &BindRequest, sockets: &[ExistingSocket]) -> PredictedResult {
    let (mut conflicts, mut unknown, mut shared) = (Vec::new(), Vec::new(), Vec::new());
    for (index, socket) in sockets.iter().enumerate() {
        match overlap(request, socket, index) {
            AddressOverlap::None => {}
            AddressOverlap::Shared => shared.push(index),
            AddressOverlap::Conflict(conflict) => conflicts.push(conflict),
            AddressOverlap::Unknown(fact) => unknown.push(Uncertainty { index, unknown: fact }),
        }
    }
    if conflicts.is_empty() {
        return granted_unless(unknown);
    }
    let exception = match request.address.protocol {
        Protocol::Tcp => remembered_bind(request, sockets, &conflicts).map(Exception::Possible),
        Protocol::Udp => first_in_list(sockets, &conflicts, &shared, &unknown),
    };
    match exception {
        None => PredictedResult::Refused(PredictedRefusal::InUse(conflicts)),
        Some(Exception::Certain) => granted_unless(unknown),
        Some(Exception::Possible(index)) => PredictedResult::Uncertain(vec![Uncertainty {
            index,
            unknown: UnknownFact::LookupOrder,
        }]),
    }
}

/// Every socket that conflicts with the request by a known fact, including those that the kernel may
/// ignore.
#[must_use]
pub fn conflicts(request: &BindRequest, sockets: &[ExistingSocket]) -> Vec<Conflict> {
    let conflict = |(index, socket): (usize, &ExistingSocket)| match overlap(request, socket, index)
    {
        AddressOverlap::Conflict(conflict) => Some(conflict),
        _ => None,
    };
    sockets.iter().enumerate().filter_map(conflict).collect()
}

fn granted_unless(unknown: Vec<Uncertainty>) -> PredictedResult {
    match unknown.is_empty() {
        true => PredictedResult::Granted,
        false => PredictedResult::Uncertain(unknown),
    }
}

/// The kernel ignores the conflicts.
enum Exception {
    Certain,
    /// If its lookup finds the socket with this index first.
    Possible(usize),
}

/// Linux checks only the first of the overlapping UDP sockets in its list: the newest, except that
/// IPv6 sockets with `SO_REUSEPORT` come last. If that one shares, the others are not checked.
fn first_in_list(
    sockets: &[ExistingSocket],
    conflicts: &[Conflict],
    shared: &[usize],
    unknown: &[Uncertainty],
) -> Option<Exception> {
    let may_share = |it: &&Uncertainty| match &it.unknown {
        UnknownFact::AnySet(flags) | UnknownFact::V6onlyOrAnySet(flags) => {
            flags.contains(&ReuseFlag::ReusePort)
        }
        UnknownFact::LookupOrder => false,
    };
    if let Some(uncertainty) = unknown.iter().find(may_share) {
        return Some(Exception::Possible(uncertainty.index));
    }
    let is_last = |index: usize| match sockets[index].address.socket.is_ipv6() {
        true => sockets[index].reuse_port,
        false => Some(false),
    };
    let sharing = shared.iter().copied().find(|index| is_last(*index) == Some(false));
    let conflicting: Vec<_> = conflicts.iter().map(|conflict| is_last(conflict.index)).collect();
    match sharing {
        Some(_) if conflicting.iter().all(|last| *last == Some(true)) => Some(Exception::Certain),
        Some(index) => Some(Exception::Possible(index)),
        None if conflicting.contains(&Some(false)) => None,
        None => shared.first().copied().map(Exception::Possible),
    }
}

fn overlap(request: &BindRequest, socket: &ExistingSocket, index: usize) -> AddressOverlap {
    let overlaps = request.address.overlaps(&socket.address);
    if !overlaps && !may_overlap_by_ipv4(request, socket) {
        return AddressOverlap::None;
    }
    let is_tcp = request.address.protocol == Protocol::Tcp;
    let is_listener = is_tcp && socket.usage == SocketUse::Waiting;
    let same_user = socket.usage == SocketUse::TimeWait || socket.uid == request.uid;
    let share_lacks = Missing {
        ours: !request.reuse_port,
        theirs: socket.reuse_port == Some(false),
        same_user: !same_user,
    };
    let reuse_lacks = (!is_listener).then_some(Missing {
        ours: !request.reuse_address,
        theirs: socket.reuse_address == Some(false),
        same_user: false,
    });
    let can_reuse = reuse_lacks == Some(Missing::default());
    let can_share = share_lacks == Missing::default();
    if can_reuse && socket.reuse_address == Some(true) {
        return AddressOverlap::None;
    }
    if can_share && socket.reuse_port == Some(true) {
        // With `SO_REUSEADDR` on both, the kernel does not check a UDP socket at all.
        return match overlaps && (is_tcp || !can_reuse) {
            true => AddressOverlap::Shared,
            false => AddressOverlap::None,
        };
    }
    let flags = [(can_reuse, ReuseFlag::ReuseAddress), (can_share, ReuseFlag::ReusePort)];
    let flags: Vec<_> = flags.into_iter().filter(|(can, _)| *can).map(|(_, flag)| flag).collect();
    match (overlaps, flags.is_empty()) {
        (false, _) => AddressOverlap::Unknown(UnknownFact::V6onlyOrAnySet(flags)),
        (true, true) => AddressOverlap::Conflict(Conflict { index, share_lacks, reuse_lacks }),
        (true, false) => AddressOverlap::Unknown(UnknownFact::AnySet(flags)),
    }
}

/// In this check, an IPv6 socket that obtained its address by `connect(2)` and accepts IPv4 also has
/// the IPv4 address 127.0.0.6 (`LOOPBACK4_IPV6`), which the IPv4 wildcard overlaps. `IPV6_V6ONLY` of a
/// connected socket is unknown.
fn may_overlap_by_ipv4(request: &BindRequest, socket: &ExistingSocket) -> bool {
    let loopback4 = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
    let as_ipv4 = Address {
        socket: SocketAddr::new(loopback4, socket.address.port()),
        ..socket.address.clone()
    };
    let is_ipv6 =
        matches!(socket.address.socket.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_none());
    let ip = request.address.socket.ip();
    let is_checked = match request.address.protocol {
        Protocol::Tcp => ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Protocol::Udp => ip.is_ipv4(),
    };
    is_connection(socket) && is_ipv6 && is_checked && request.address.overlaps(&as_ipv4)
}

/// An existing socket that may make the kernel skip the check of all conflicting sockets.
///
/// While a port is in use, Linux remembers owner and address of the last TCP socket with
/// `SO_REUSEPORT` that was bound to it, and lets the same owner bind that address again without a
/// check. It remembers neither the device nor `SO_REUSEADDR`, ignores `IPV6_V6ONLY` of `[::]`, and
/// treats 0.0.0.0 like `[::]`. A connection may come from a listener that is closed and was that
/// socket.
fn remembered_bind(
    request: &BindRequest,
    sockets: &[ExistingSocket],
    conflicts: &[Conflict],
) -> Option<usize> {
    let without_device = |address: &Address| Address { device: None, ..address.clone() };
    let ip = |address: &Address| address.socket.ip().to_canonical();
    let ours = without_device(&request.address);
    let may_be_remembered = |socket: &ExistingSocket| {
        let theirs = without_device(&socket.address);
        let both_wildcards = ip(&ours).is_unspecified() && ip(&theirs).is_unspecified();
        let same_port = (ours.protocol, ours.port()) == (theirs.protocol, theirs.port());
        same_port
            && (socket.uid == request.uid || socket.usage == SocketUse::TimeWait)
            && socket.reuse_port != Some(false)
            && (is_connection(socket)
                || ip(&ours) == ip(&theirs)
                || both_wildcards
                || ours.is_within(&theirs))
            && conflicts.iter().all(|conflict| could_coexist(socket, &sockets[conflict.index]))
    };
    request.reuse_port.then(|| sockets.iter().position(may_be_remembered)).flatten()
}

/// Whether `one`, or the listener that accepted it, could be bound at the same time as `other`.
fn could_coexist(one: &ExistingSocket, other: &ExistingSocket) -> bool {
    let is_ipv4 = |it: &ExistingSocket| it.address.socket.ip().to_canonical().is_ipv4();
    let both_reuse = other.usage != SocketUse::Waiting
        && one.reuse_address != Some(false)
        && other.reuse_address != Some(false);
    let devices = one.address.device.as_ref().zip(other.address.device.as_ref());
    both_reuse
        || devices.is_some_and(|(one, other)| one != other)
        || match is_connection(one) {
            false => !one.address.overlaps(&other.address),
            true => is_ipv4(one) != is_ipv4(other),
        }
}

fn is_connection(socket: &ExistingSocket) -> bool {
    matches!(socket.usage, SocketUse::Connected | SocketUse::TimeWait)
}
