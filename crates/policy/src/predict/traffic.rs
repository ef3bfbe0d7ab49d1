//! The receiver of traffic that two waiting sockets could both receive.

use std::net::{IpAddr, SocketAddr};

use super::model::{BindRequest, ExistingSocket, SocketUse, TrafficEffect, TrafficOutcome};
use crate::model::{Address, Protocol};

/// The effects on sockets that wait or will listen. Connected sockets keep the traffic of their peer.
pub(super) fn effects(request: &BindRequest, sockets: &[ExistingSocket]) -> Vec<TrafficEffect> {
    merge_families(effects_by_family(request, sockets))
}

/// The same, with an effect for each family of a wildcard.
pub(super) fn effects_by_family(
    request: &BindRequest,
    sockets: &[ExistingSocket],
) -> Vec<TrafficEffect> {
    let mut effects = Vec::new();
    for (index, socket) in sockets.iter().enumerate() {
        let Some(address) = intersection(&request.address, &socket.address) else { continue };
        match socket.usage {
            SocketUse::Waiting => {
                for address in split_families(address) {
                    let outcome = outcome(request, socket, sockets, &address);
                    effects.push(TrafficEffect { index, address, outcome });
                }
            }
            SocketUse::Bound => {
                let can_share = request.reuse_port && request.uid == socket.uid;
                let outcome = match socket.reuse_port {
                    Some(true) if can_share => continue,
                    None if can_share => TrafficOutcome::Unclear,
                    _ => TrafficOutcome::Race,
                };
                effects.push(TrafficEffect { index, address, outcome });
            }
            SocketUse::Connected | SocketUse::TimeWait => {}
        }
    }
    effects
}

/// The traffic that both addresses contain.
fn intersection(one: &Address, other: &Address) -> Option<Address> {
    if !one.overlaps(other) {
        return None;
    }
    let device = one.device.clone().or_else(|| other.device.clone());
    let narrower = match (one.is_dual_stack(), other.is_dual_stack()) {
        (true, _) => other,
        (_, true) => one,
        _ if one.socket.ip().to_canonical().is_unspecified() => other,
        _ => one,
    };
    let socket = match narrower.socket.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), one.port()),
        IpAddr::V6(_) => narrower.socket,
    };
    Some(Address { device, socket, ..narrower.clone() })
}

/// The kernel has separate lookups for IPv4 and IPv6.
fn split_families(address: Address) -> Vec<Address> {
    if !address.is_dual_stack() {
        return vec![address];
    }
    let any4 = SocketAddr::from(([0, 0, 0, 0], address.port()));
    vec![Address { socket: any4, ..address.clone() }, Address { v6only: true, ..address }]
}

/// Joins the two families of a wildcard again if their outcomes are equal.
fn merge_families(effects: Vec<TrafficEffect>) -> Vec<TrafficEffect> {
    let is_wildcard = |it: &TrafficEffect| it.address.socket.ip().is_unspecified();
    let mut merged: Vec<TrafficEffect> = Vec::with_capacity(effects.len());
    for effect in effects {
        match merged.last_mut() {
            Some(last)
                if (last.index, last.outcome) == (effect.index, effect.outcome)
                    && is_wildcard(last)
                    && is_wildcard(&effect) =>
            {
                last.address = Address { v6only: false, ..effect.address };
            }
            _ => merged.push(effect),
        }
    }
    merged
}

fn outcome(
    request: &BindRequest,
    socket: &ExistingSocket,
    sockets: &[ExistingSocket],
    address: &Address,
) -> TrafficOutcome {
    let ours = is_exact(&request.address, address);
    let theirs = is_exact(&socket.address, address);
    if ours != theirs {
        return if ours { TrafficOutcome::Taken } else { TrafficOutcome::Kept };
    }
    let one_group = request.reuse_port
        && request.uid == socket.uid
        && request.address.socket == socket.address.socket
        && request.address.device == socket.address.device
        && request.address.v6only == socket.address.v6only;
    let is_udp = request.address.protocol == Protocol::Udp;
    // With a connected member in the group, the kernel scores each member instead of hashing.
    let is_scored = is_udp
        && sockets.iter().any(|other| {
            other.usage == SocketUse::Connected
                && other.reuse_port != Some(false)
                && other.address.port() == request.address.port()
        });
    match socket.reuse_port {
        _ if is_scored && request.reuse_port => TrafficOutcome::Unclear,
        None if is_udp => TrafficOutcome::Unclear,
        Some(false) => newest(request, socket, address),
        _ if one_group => TrafficOutcome::Shared,
        _ => newest(request, socket, address),
    }
}

/// Whether the lookup finds the socket by the address itself, which precedes the wildcard.
fn is_exact(socket: &Address, address: &Address) -> bool {
    socket.socket.ip().to_canonical() == address.socket.ip()
        && !address.socket.ip().is_unspecified()
}

/// The first of two sockets in one list. The newest is first, except that IPv6 sockets with
/// `SO_REUSEPORT` are last. The lookup takes the first socket with that option, else the best score.
fn newest(request: &BindRequest, socket: &ExistingSocket, address: &Address) -> TrafficOutcome {
    let is_last = request.reuse_port && request.address.socket.is_ipv6();
    let (ours, theirs) = (score(&request.address, address), score(&socket.address, address));
    let taken = if is_last {
        socket.reuse_port != Some(true) && ours > theirs
    } else {
        request.reuse_port || ours >= theirs
    };
    if taken { TrafficOutcome::Taken } else { TrafficOutcome::Kept }
}

/// `compute_score` of the kernel: a socket on a device, or of the packet's family, is preferred.
fn score(socket: &Address, address: &Address) -> u8 {
    let device = u8::from(socket.device.is_some());
    let family = u8::from(address.socket.is_ipv4() && socket.socket.is_ipv4());
    match socket.protocol {
        Protocol::Tcp => device + family,
        Protocol::Udp => 4 * device + family,
    }
}
