//! Changes that make a refused bind succeed. Each is verified by a prediction.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::bind::predict;
use super::model::{
    BindRequest, Conflict, ExistingSocket, PortLimits, PredictedRefusal, PredictedResult,
    SocketUse, TrafficOutcome,
};
use super::traffic::effects;
use crate::model::{Address, Protocol};

/// A change that makes a refused bind succeed. Numbers are indices of existing sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Set `SO_REUSEADDR` on the new socket.
    ReuseAddress,
    /// Set `SO_REUSEPORT` on the new socket; these have it, and the same owner.
    Join(Vec<usize>),
    /// Set `SO_REUSEPORT` on the new socket, and restart these with it.
    Share(Vec<usize>),
    /// Become this user, and set `SO_REUSEPORT` on the new socket.
    AsUser {
        /// The owner of the conflicting sockets.
        uid: u32,
        /// The sockets that must be restarted with `SO_REUSEPORT`.
        restart: Vec<usize>,
    },
    /// Remove these: end the processes or connections, or wait for the end of TIME_WAIT.
    Remove(Vec<usize>),
    /// Bind this address: one family of the requested dual-stack wildcard.
    OneFamily(Address),
    /// Bind one or more of these addresses of the machine instead of the wildcard.
    Specific(Vec<Address>),
    /// Set `IP_FREEBIND` or `IPV6_FREEBIND` on the new socket.
    Freebind,
    /// Set `IP_TRANSPARENT` or `IPV6_TRANSPARENT` on the new socket, as root.
    Transparent,
    /// Bind this unused port.
    OtherPort(u16),
}

/// The remedies that work, least invasive first; where the prediction is uncertain, the removal of the sockets that
/// it depends on. `all` are the addresses of all sockets of the
/// protocol, on every port; `local` those of the machine's interfaces.
#[must_use]
pub fn remedies(
    request: &BindRequest,
    limits: &PortLimits,
    sockets: &[ExistingSocket],
    all: &[Address],
    local: &[IpAddr],
) -> Vec<Remedy> {
    let refusal = match predict(request, limits, sockets).result {
        PredictedResult::Refused(refusal) => refusal,
        PredictedResult::Uncertain(doubts) => {
            let mut doubtful: Vec<usize> = doubts.iter().map(|doubt| doubt.index).collect();
            doubtful.sort_unstable();
            doubtful.dedup();
            let others = without(sockets, &doubtful);
            let is_certain = predict(request, limits, &others).result == PredictedResult::Granted;
            return if is_certain { vec![Remedy::Remove(doubtful)] } else { vec![] };
        }
        PredictedResult::Granted => return vec![],
    };
    let mut remedies = match &refusal {
        PredictedRefusal::InUse(conflicts) => {
            let mut remedies = without_conflicts(request, limits, sockets, conflicts);
            let specific = specific(request, limits, sockets, local);
            remedies.extend((!specific.is_empty()).then_some(Remedy::Specific(specific)));
            remedies
        }
        PredictedRefusal::NotLocal => elsewhere(request, limits, sockets),
        _ => vec![],
    };
    // A missing device or IP is missing on every port.
    if matches!(refusal, PredictedRefusal::InUse(_) | PredictedRefusal::NeedsPrivilege) {
        remedies.extend(unused_port(request, limits, all).map(Remedy::OtherPort));
    }
    remedies
}

fn without_conflicts(
    request: &BindRequest,
    limits: &PortLimits,
    sockets: &[ExistingSocket],
    conflicts: &[Conflict],
) -> Vec<Remedy> {
    let mut remedies = Vec::new();
    let works = |request: &BindRequest, sockets: &[ExistingSocket]| {
        match predict(request, limits, sockets).result {
            PredictedResult::Granted => true,
            // Connections end by themselves.
            PredictedResult::Uncertain(unknown) => {
                unknown.iter().all(|it| is_connection(&sockets[it.index]))
            }
            PredictedResult::Refused(_) => false,
        }
    };
    let conflicting: Vec<usize> = conflicts.iter().map(|conflict| conflict.index).collect();
    let reusing = BindRequest { reuse_address: true, ..request.clone() };
    // On UDP, `SO_REUSEADDR` can take the traffic of another socket.
    let takes_traffic =
        || effects(&reusing, sockets).iter().any(|it| it.outcome == TrafficOutcome::Taken);
    if works(&reusing, sockets) && !takes_traffic() {
        remedies.push(Remedy::ReuseAddress);
    }
    let sharing = BindRequest { reuse_port: true, ..request.clone() };
    let is_shared = |index: &usize| sockets[*index].reuse_port == Some(true);
    let restart: Vec<usize> =
        conflicting.iter().copied().filter(|index| !is_shared(index)).collect();
    let mut restarted = sockets.to_vec();
    for index in &restart {
        let socket = &mut restarted[*index];
        (socket.reuse_port, socket.reuse_address) = (Some(true), Some(false));
    }
    // A connection cannot be restarted with another option.
    let can_restart = restart.iter().all(|index| !is_connection(&sockets[*index]));
    let owner = conflicting.first().map(|index| sockets[*index].uid);
    if conflicting.iter().any(is_shared) && works(&sharing, sockets) {
        remedies.push(Remedy::Join(conflicting.clone()));
    } else if can_restart && works(&sharing, &restarted) {
        remedies.push(Remedy::Share(restart));
    } else if let Some(uid) = owner.filter(|uid| *uid != request.uid)
        && can_restart
        && works(&BindRequest { uid, ..sharing }, &restarted)
    {
        remedies.push(Remedy::AsUser { uid, restart });
    }
    if works(request, &without(sockets, &conflicting)) {
        remedies.push(Remedy::Remove(conflicting));
    }
    let one_family = |address: &Address| {
        works(&BindRequest { address: address.clone(), ..request.clone() }, sockets)
    };
    remedies.extend(families(&request.address).into_iter().find(one_family).map(Remedy::OneFamily));
    remedies
}

/// The sockets that are left without those of these indices.
fn without(sockets: &[ExistingSocket], removed: &[usize]) -> Vec<ExistingSocket> {
    let stays = |(index, _): &(usize, _)| !removed.contains(index);
    sockets.iter().enumerate().filter(stays).map(|(_, socket)| socket.clone()).collect()
}

/// The addresses of interfaces that can be bound although the wildcard cannot, without those that a wildcard
/// of the other family covers. Link-local addresses need a device and are left out.
fn specific(
    request: &BindRequest,
    limits: &PortLimits,
    sockets: &[ExistingSocket],
    local: &[IpAddr],
) -> Vec<Address> {
    const MOST: usize = 4;
    let wildcard = request.address.socket.ip();
    if !wildcard.is_unspecified() {
        return vec![];
    }
    let includes =
        |ip: &&IpAddr| ip.is_ipv4() == wildcard.is_ipv4() || request.address.is_dual_stack();
    let is_link_local = |ip: &&IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let address = |ip: &IpAddr| Address {
        socket: SocketAddr::new(*ip, request.address.port()),
        v6only: false,
        ..request.address.clone()
    };
    let can_be_bound = |address: &Address| {
        let request = BindRequest { address: address.clone(), ..request.clone() };
        predict(&request, limits, sockets).result == PredictedResult::Granted
    };
    local
        .iter()
        .filter(|ip| includes(ip) && !is_link_local(ip))
        .map(address)
        .filter(can_be_bound)
        .take(MOST)
        .collect()
}

/// The options that let a socket have an address of no interface.
fn elsewhere(
    request: &BindRequest,
    limits: &PortLimits,
    sockets: &[ExistingSocket],
) -> Vec<Remedy> {
    let as_root = PortLimits { may_be_transparent: true, ..*limits };
    let works = |request: BindRequest, limits: &PortLimits| {
        predict(&request, limits, sockets).result == PredictedResult::Granted
    };
    let freebind = works(BindRequest { freebind: true, ..request.clone() }, limits);
    let transparent = works(BindRequest { transparent: true, ..request.clone() }, &as_root);
    let all = [(freebind, Remedy::Freebind), (transparent, Remedy::Transparent)];
    all.into_iter().filter(|(works, _)| *works).map(|(_, remedy)| remedy).collect()
}

fn is_connection(socket: &ExistingSocket) -> bool {
    matches!(socket.usage, SocketUse::Connected | SocketUse::TimeWait)
}

/// The two families of a dual-stack wildcard.
fn families(address: &Address) -> Vec<Address> {
    if !address.is_dual_stack() {
        return vec![];
    }
    let wildcard = |ip: IpAddr| SocketAddr::new(ip, address.port());
    vec![
        Address { socket: wildcard(Ipv4Addr::UNSPECIFIED.into()), ..address.clone() },
        Address { socket: wildcard(Ipv6Addr::UNSPECIFIED.into()), v6only: true, ..address.clone() },
    ]
}

/// The next port that no socket uses and that the user may bind. A low port has a conventional
/// alternative, such as 8080 for 80.
fn unused_port(request: &BindRequest, limits: &PortLimits, all: &[Address]) -> Option<u16> {
    const ALTERNATIVES: [(u16, u16); 3] = [(80, 8080), (443, 8443), (53, 5353)];
    let requested = request.address.port();
    let protocol = request.address.protocol;
    let first = match limits.may_bind_low {
        true => 1,
        false => limits.unprivileged_port_start.max(1),
    };
    let mut used: Vec<u16> =
        all.iter().filter(|it| it.protocol == protocol).map(Address::port).collect();
    used.sort_unstable();
    let is_low = requested < limits.unprivileged_port_start && protocol == Protocol::Tcp;
    let alternative = ALTERNATIVES.iter().find(|(low, _)| *low == requested).map(|(_, high)| *high);
    let start = alternative.filter(|_| is_low && !limits.may_bind_low).unwrap_or(requested);
    let is_unused = |port: &u16| *port != requested && used.binary_search(port).is_err();
    (start.max(first)..=u16::MAX).find(is_unused)
}
