//! Whether two sockets may have overlapping addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{BindRequest, ExistingSocket, PredictedRefusal, PredictedResult, SocketUse};
use crate::model::{Address, Protocol};

/// Someone in the way, and what each of the two ways past lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// Which of the others.
    pub index: usize,
    /// What sharing by `SO_REUSEPORT` lacks. Something is missing.
    pub share_lacks: Missing,
    /// What reuse by `SO_REUSEADDR` lacks; `None` where it never helps: against a TCP listener.
    pub reuse_lacks: Option<Missing>,
}

/// What is missing for a way past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missing {
    /// The option on the wish.
    pub ours: bool,
    /// The option on the other. False also where it is not known.
    pub theirs: bool,
    /// That both belong to one user.
    pub same_user: bool,
}

/// An option by which two sockets can have overlapping addresses.
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

/// Something that decides and is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncertainty {
    /// Which of the others it is about.
    pub index: usize,
    /// What is not known of it.
    pub unknown: UnknownFact,
}

/// What is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnknownFact {
    /// It goes well if one of these is set on the other.
    AnySet(Vec<ReuseFlag>),
    /// It goes well if the socket that the other stems from refused IPv4 (`IPV6_V6ONLY`), or if one
    /// of these is set on it.
    V6onlyOrAnySet(Vec<ReuseFlag>),
    /// It goes well if the kernel comes to this one before those that are in the way. TCP: if this one was
    /// bound, or began to listen, last. UDP: if it was bound last, but IPv6 with `SO_REUSEPORT` is last.
    LookupOrder,
}

/// Whether an address that another has may be had too.
enum AddressOverlap {
    /// They have nothing to do with each other, or both said that they do not mind.
    Nothing,
    /// Both have `SO_REUSEPORT` and one owner.
    Shared,
    Conflict(Conflict),
    Doubt(UnknownFact),
}

pub(super) fn verdict(wish: &BindRequest, others: &[ExistingSocket]) -> PredictedResult {
    let mut conflicts = Vec::new();
    let mut doubts = Vec::new();
    let mut shared = Vec::new();
    for (with, other) in others.iter().enumerate() {
        match between(wish, other, with) {
            AddressOverlap::Nothing => {}
            AddressOverlap::Shared => shared.push(with),
            AddressOverlap::Conflict(conflict) => conflicts.push(conflict),
            AddressOverlap::Doubt(question) => {
                doubts.push(Uncertainty { index: with, unknown: question })
            }
        }
    }
    if conflicts.is_empty() {
        return if doubts.is_empty() {
            PredictedResult::Granted
        } else {
            PredictedResult::Uncertain(doubts)
        };
    }
    let past = match wish.address.protocol {
        Protocol::Tcp => shortcut(wish, others, &conflicts).map(Coexistence::Perhaps),
        Protocol::Udp => past_of_udp(others, &conflicts, &shared, &doubts),
    };
    match past {
        None => PredictedResult::Refused(PredictedRefusal::InUse(conflicts)),
        Some(Coexistence::Surely) if doubts.is_empty() => PredictedResult::Granted,
        Some(Coexistence::Surely) => PredictedResult::Uncertain(doubts),
        Some(Coexistence::Perhaps(with)) => PredictedResult::Uncertain(vec![Uncertainty {
            index: with,
            unknown: UnknownFact::LookupOrder,
        }]),
    }
}

/// Whether a conflict may be passed over.
enum Coexistence {
    Surely,
    /// By this one.
    Perhaps(usize),
}

/// Of all UDP sockets that overlap, Linux asks only the first in its list: the newest, but IPv6 sockets
/// with `SO_REUSEPORT` come after all others. If that one shares, nobody else is asked.
fn past_of_udp(
    others: &[ExistingSocket],
    conflicts: &[Conflict],
    shared: &[usize],
    doubts: &[Uncertainty],
) -> Option<Coexistence> {
    let may_share = |doubt: &&Uncertainty| match &doubt.unknown {
        UnknownFact::AnySet(flags) | UnknownFact::V6onlyOrAnySet(flags) => {
            flags.contains(&ReuseFlag::ReusePort)
        }
        UnknownFact::LookupOrder => false,
    };
    if let Some(doubt) = doubts.iter().find(may_share) {
        return Some(Coexistence::Perhaps(doubt.index));
    }
    let is_last = |other: &ExistingSocket| match other.address.socket.is_ipv6() {
        true => other.reuse_port,
        false => Some(false),
    };
    let sharing = shared.iter().copied().find(|at| is_last(&others[*at]) == Some(false));
    let in_the_way: Vec<_> = conflicts.iter().map(|found| is_last(&others[found.index])).collect();
    match sharing {
        Some(_) if in_the_way.iter().all(|last| *last == Some(true)) => Some(Coexistence::Surely),
        Some(with) => Some(Coexistence::Perhaps(with)),
        None if in_the_way.contains(&Some(false)) => None,
        None => shared.first().copied().map(Coexistence::Perhaps),
    }
}

fn between(wish: &BindRequest, other: &ExistingSocket, with: usize) -> AddressOverlap {
    let certain = wish.address.overlaps(&other.address);
    if !certain && !may_overlap_unseen(wish, other) {
        return AddressOverlap::Nothing;
    }
    let tcp = wish.address.protocol == Protocol::Tcp;
    let listens = tcp && other.usage == SocketUse::Waiting;
    let same_user = other.usage == SocketUse::TimeWait || other.uid == wish.uid;
    let reuse = Missing {
        ours: !wish.reuse_address,
        theirs: other.reuse_address == Some(false),
        same_user: false,
    };
    let share = Missing {
        ours: !wish.reuse_port,
        theirs: other.reuse_port == Some(false),
        same_user: !same_user,
    };
    let reuse = (!listens).then_some(reuse);
    let can_reuse = reuse == Some(Missing::default());
    let can_share = share == Missing::default();
    if can_reuse && other.reuse_address == Some(true) {
        return AddressOverlap::Nothing;
    }
    let mut open = Vec::new();
    if can_reuse {
        open.push(ReuseFlag::ReuseAddress);
    }
    if can_share {
        if other.reuse_port == Some(true) && certain {
            // UDP: with the other option as well it would not even be asked.
            return if open.is_empty() || tcp {
                AddressOverlap::Shared
            } else {
                AddressOverlap::Nothing
            };
        }
        open.push(ReuseFlag::ReusePort);
    }
    match (certain, open.is_empty()) {
        (false, _) if can_share && other.reuse_port == Some(true) => AddressOverlap::Nothing,
        (false, _) => AddressOverlap::Doubt(UnknownFact::V6onlyOrAnySet(open)),
        (true, true) => AddressOverlap::Conflict(Conflict {
            index: with,
            share_lacks: share,
            reuse_lacks: reuse,
        }),
        (true, false) => AddressOverlap::Doubt(UnknownFact::AnySet(open)),
    }
}

/// An IPv6 socket that got its one address by connecting, and does not refuse IPv4, has an IPv4
/// address too as far as this check goes: 127.0.0.6 (`LOOPBACK4_IPV6`). The IPv4 wildcard overlaps
/// it. Of a socket with a peer, nothing tells whether it refuses IPv4.
fn may_overlap_unseen(wish: &BindRequest, other: &ExistingSocket) -> bool {
    let stands_for = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
    let ours = wish.address.socket.ip();
    let as_ipv4 = Address {
        socket: SocketAddr::new(stands_for, other.address.port()),
        ..other.address.clone()
    };
    let theirs_is_ipv6 =
        matches!(other.address.socket.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_none());
    let compared = match wish.address.protocol {
        Protocol::Tcp => ours == IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Protocol::Udp => ours.is_ipv4(),
    };
    matches!(other.usage, SocketUse::Connected | SocketUse::TimeWait)
        && theirs_is_ipv6
        && compared
        && wish.address.overlaps(&as_ipv4)
}

/// One by whom the wish may slip past all these conflicts.
///
/// Linux remembers owner and address of the last TCP socket with `SO_REUSEPORT` that was bound to a
/// port beside others, as long as the port is in use, and lets the same owner bind there again without
/// a look at the others. It remembers neither the device nor `SO_REUSEADDR`, takes one `[::]` for
/// another whether or not it refuses IPv4, and 0.0.0.0 for `[::]`. A connection may stem from a listener
/// that is gone and was that socket.
fn shortcut(
    wish: &BindRequest,
    others: &[ExistingSocket],
    conflicts: &[Conflict],
) -> Option<usize> {
    let remembered = |other: &ExistingSocket| {
        let stems = matches!(other.usage, SocketUse::Connected | SocketUse::TimeWait);
        let anywhere = |address: &Address| Address { device: None, ..address.clone() };
        let ip = |address: &Address| address.socket.ip().to_canonical();
        let (ours, theirs) = (anywhere(&wish.address), anywhere(&other.address));
        let both_wild = is_wild(&ours) && is_wild(&theirs);
        same_port(&ours, &theirs)
            && (other.uid == wish.uid || other.usage == SocketUse::TimeWait)
            && other.reuse_port != Some(false)
            && (stems || ip(&ours) == ip(&theirs) || both_wild || ours.is_within(&theirs))
            && conflicts.iter().all(|conflict| lived_beside(other, &others[conflict.index]))
    };
    if !wish.reuse_port {
        return None;
    }
    others.iter().position(remembered)
}

/// Whether the two, or what the first stems from and the second, could be bound at one time.
fn lived_beside(one: &ExistingSocket, other: &ExistingSocket) -> bool {
    let is_ipv4 = |of: &ExistingSocket| of.address.socket.ip().to_canonical().is_ipv4();
    let both_reuse = other.usage != SocketUse::Waiting
        && one.reuse_address != Some(false)
        && other.reuse_address != Some(false);
    let families = is_ipv4(one) != is_ipv4(other);
    let devices = one.address.device.is_some()
        && other.address.device.is_some()
        && one.address.device != other.address.device;
    both_reuse
        || devices
        || match one.usage {
            SocketUse::Waiting | SocketUse::Bound => !one.address.overlaps(&other.address),
            SocketUse::Connected | SocketUse::TimeWait => families,
        }
}

fn same_port(one: &Address, other: &Address) -> bool {
    (one.protocol, one.port()) == (other.protocol, other.port())
}

fn is_wild(address: &Address) -> bool {
    address.socket.ip().to_canonical().is_unspecified()
}
