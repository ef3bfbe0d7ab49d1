//! Who gets what two waiting sockets could both take.

use std::net::{IpAddr, SocketAddr};

use super::{BindRequest, ExistingSocket, SocketUse};
use crate::model::{Address, Protocol};

/// What becomes of traffic that the wish and another could both take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficEffect {
    /// Which of the others.
    pub index: usize,
    /// The traffic: what both addresses contain.
    pub address: Address,
    /// Who gets it.
    pub outcome: TrafficOutcome,
}

/// Who gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrafficOutcome {
    /// Both, by a hash over each client's and their own address, or as a program of the group says.
    Shared,
    /// The other gets none of it any longer.
    Taken,
    /// The wish gets none of it.
    Kept,
    /// It cannot be told from what is known.
    Unclear,
    /// The other is bound and does not listen yet. Whoever of the two listens first has it, and the
    /// other's `listen` fails with EADDRINUSE.
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

/// The effects on all that wait, or are about to. Sockets that have a peer keep what it sends, and are
/// not named.
pub(super) fn effects(wish: &BindRequest, others: &[ExistingSocket]) -> Vec<TrafficEffect> {
    let mut effects = Vec::new();
    for (with, other) in others.iter().enumerate() {
        let Some(on) = common(&wish.address, &other.address) else { continue };
        match other.usage {
            SocketUse::Waiting => {}
            SocketUse::Bound => {
                let can_share = wish.reuse_port && wish.uid == other.uid;
                let outcome = match other.reuse_port {
                    Some(true) if can_share => continue,
                    None if can_share => TrafficOutcome::Unclear,
                    _ => TrafficOutcome::Race,
                };
                effects.push(TrafficEffect { index: with, address: on, outcome });
                continue;
            }
            SocketUse::Connected | SocketUse::TimeWait => continue,
        }
        for on in families(on) {
            let outcome = outcome(wish, other, others, &on);
            effects.push(TrafficEffect { index: with, address: on, outcome });
        }
    }
    merged(effects)
}

/// What both contain.
fn common(one: &Address, other: &Address) -> Option<Address> {
    if !one.overlaps(other) {
        return None;
    }
    let device = one.device.clone().or_else(|| other.device.clone());
    let ip = |address: &Address| address.socket.ip().to_canonical();
    let narrower = match (one.is_dual_stack(), other.is_dual_stack()) {
        (true, _) => other,
        (_, true) => one,
        _ if ip(one).is_unspecified() => other,
        _ => one,
    };
    let socket = match narrower.socket.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), one.port()),
        IpAddr::V6(_) => narrower.socket,
    };
    Some(Address { device, socket, ..narrower.clone() })
}

/// IPv4 and IPv6 are looked up one apart from the other.
fn families(on: Address) -> Vec<Address> {
    if !on.is_dual_stack() {
        return vec![on];
    }
    let any4 = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), on.port());
    vec![Address { socket: any4, ..on.clone() }, Address { v6only: true, ..on }]
}

/// The two families in one word again where they go the same way.
fn merged(effects: Vec<TrafficEffect>) -> Vec<TrafficEffect> {
    let mut merged: Vec<TrafficEffect> = Vec::with_capacity(effects.len());
    for effect in effects {
        let wild = |on: &Address| on.socket.ip().is_unspecified();
        match merged.last_mut() {
            Some(last)
                if (last.index, last.outcome) == (effect.index, effect.outcome)
                    && wild(&last.address)
                    && wild(&effect.address) =>
            {
                last.address = Address { v6only: false, ..effect.address };
            }
            _ => merged.push(effect),
        }
    }
    merged
}

fn outcome(
    wish: &BindRequest,
    other: &ExistingSocket,
    others: &[ExistingSocket],
    on: &Address,
) -> TrafficOutcome {
    let ours = level(&wish.address, on);
    let theirs = level(&other.address, on);
    if ours != theirs {
        return if ours { TrafficOutcome::Taken } else { TrafficOutcome::Kept };
    }
    let one_group = wish.reuse_port
        && wish.uid == other.uid
        && wish.address.socket == other.address.socket
        && wish.address.device == other.address.device
        && wish.address.v6only == other.address.v6only;
    let udp = wish.address.protocol == Protocol::Udp;
    // A member that has a peer makes the kernel go through its group one by one.
    let mixed = udp
        && others.iter().any(|third| {
            third.usage == SocketUse::Connected
                && third.reuse_port != Some(false)
                && third.address.port() == wish.address.port()
        });
    match other.reuse_port {
        _ if mixed && wish.reuse_port => TrafficOutcome::Unclear,
        None if udp => TrafficOutcome::Unclear,
        Some(false) if one_group => newest(wish, other, on),
        _ if one_group => TrafficOutcome::Shared,
        _ => newest(wish, other, on),
    }
}

/// Whether the socket is found by the address itself, which comes before the wildcard.
fn level(address: &Address, on: &Address) -> bool {
    address.socket.ip().to_canonical() == on.socket.ip() && !on.socket.ip().is_unspecified()
}

/// Of two that are found in one list, in which the newest is first, except that IPv6 sockets with
/// `SO_REUSEPORT` are put last. The first with that option is taken as it is; else the best.
fn newest(wish: &BindRequest, other: &ExistingSocket, on: &Address) -> TrafficOutcome {
    let last = wish.reuse_port && wish.address.socket.is_ipv6();
    let (ours, theirs) = (score(&wish.address, on), score(&other.address, on));
    let taken = if last {
        other.reuse_port != Some(true) && ours > theirs
    } else {
        wish.reuse_port || ours >= theirs
    };
    if taken { TrafficOutcome::Taken } else { TrafficOutcome::Kept }
}

fn score(address: &Address, on: &Address) -> u8 {
    let device = u8::from(address.device.is_some());
    let family = u8::from(on.socket.is_ipv4() && address.socket.is_ipv4());
    match address.protocol {
        Protocol::Tcp => device + family,
        Protocol::Udp => 4 * device + family,
    }
}
