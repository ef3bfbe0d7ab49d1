//! What would work instead: every one is a prediction too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::traffic::effects;
use super::{
    BindRequest, Conflict, ExistingSocket, PortLimits, PredictedRefusal, PredictedResult,
    SocketUse, TrafficEffect, TrafficOutcome, predict,
};
use crate::model::{Address, Protocol};

/// Something that makes a refused wish work. Indices are those of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// `SO_REUSEADDR` on the wish; nothing else is needed.
    ReuseAddress,
    /// `SO_REUSEPORT` on the wish; the others have it, and one owner with it.
    Join(Vec<usize>),
    /// `SO_REUSEPORT` on both sides: these are to be started again with it.
    Share(Vec<usize>),
    /// To be this user, with `SO_REUSEPORT` on the wish, and on these, which lack it.
    AsUser {
        /// The owner of all that are in the way.
        uid: u32,
        /// Those to be started again.
        restart: Vec<usize>,
    },
    /// That these are gone: processes to end, connections to end, or a minute to wait for.
    Remove(Vec<usize>),
    /// This address, which serves a part of what was wished for.
    OneFamily(Address),
    /// This port, which nobody has.
    OtherPort(u16),
}

/// The ways that work, the gentlest first. `everywhere`: all sockets of the protocol, on every port.
#[must_use]
pub fn remedies(
    wish: &BindRequest,
    machine: &PortLimits,
    others: &[ExistingSocket],
    everywhere: &[Address],
) -> Vec<Remedy> {
    let refused = match predict(wish, machine, others).result {
        PredictedResult::Refused(refused) => refused,
        PredictedResult::Granted | PredictedResult::Uncertain(_) => return vec![],
    };
    let works = |wish: &BindRequest, others: &[ExistingSocket]| match predict(wish, machine, others)
        .result
    {
        PredictedResult::Granted => true,
        // What connections leave behind goes by itself.
        PredictedResult::Uncertain(doubts) => doubts.iter().all(|doubt| {
            matches!(others[doubt.index].usage, SocketUse::Connected | SocketUse::TimeWait)
        }),
        PredictedResult::Refused(_) => false,
    };
    let mut found = Vec::new();
    if let PredictedRefusal::InUse(conflicts) = &refused {
        in_use(wish, others, conflicts, &works, &mut found);
    }
    // An address that is not here, or a device, does not come by another port.
    if matches!(refused, PredictedRefusal::InUse(_) | PredictedRefusal::NeedsPrivilege) {
        found.extend(next_port(wish, machine, everywhere).map(Remedy::OtherPort));
    }
    found
}

fn in_use(
    wish: &BindRequest,
    others: &[ExistingSocket],
    conflicts: &[Conflict],
    works: &impl Fn(&BindRequest, &[ExistingSocket]) -> bool,
    found: &mut Vec<Remedy>,
) {
    let in_the_way: Vec<usize> = conflicts.iter().map(|conflict| conflict.index).collect();
    let reusing = BindRequest { reuse_address: true, ..wish.clone() };
    // On UDP it gets past others by taking what is theirs.
    let takes = |effect: &TrafficEffect| effect.outcome == TrafficOutcome::Taken;
    let harmless = || !effects(&reusing, others).iter().any(takes);
    if works(&reusing, others) && harmless() {
        found.push(Remedy::ReuseAddress);
    }
    let sharing = BindRequest { reuse_port: true, ..wish.clone() };
    let lacking: Vec<usize> =
        in_the_way.iter().copied().filter(|at| others[*at].reuse_port != Some(true)).collect();
    let restarted = |others: &[ExistingSocket]| {
        let mut others = others.to_vec();
        for at in &lacking {
            (others[*at].reuse_port, others[*at].reuse_address) = (Some(true), Some(false));
        }
        others
    };
    // What has a peer is not started again with another option: it ends.
    let waits = |at: &usize| matches!(others[*at].usage, SocketUse::Waiting | SocketUse::Bound);
    let owner = in_the_way.first().map(|at| others[*at].uid).filter(|uid| *uid != wish.uid);
    // Nobody who may be ready is said to be: what is left of a connection is no other side.
    let ready = |at: &usize| others[*at].reuse_port == Some(true);
    if in_the_way.iter().any(ready) && works(&sharing, others) {
        found.push(Remedy::Join(in_the_way.clone()));
    } else if lacking.iter().all(waits) && works(&sharing, &restarted(others)) {
        found.push(Remedy::Share(lacking.clone()));
    } else if let Some(uid) = owner {
        let as_owner = BindRequest { uid, ..sharing };
        if lacking.iter().all(waits) && works(&as_owner, &restarted(others)) {
            found.push(Remedy::AsUser { uid, restart: lacking.clone() });
        }
    }
    let left: Vec<ExistingSocket> = others
        .iter()
        .enumerate()
        .filter(|(at, _)| !in_the_way.contains(at))
        .map(|(_, other)| other.clone())
        .collect();
    if works(wish, &left) {
        found.push(Remedy::Remove(in_the_way));
    }
    found.extend(parts(&wish.address).into_iter().find_map(|part| {
        let wish = BindRequest { address: part.clone(), ..wish.clone() };
        works(&wish, others).then_some(Remedy::OneFamily(part))
    }));
}

/// The two families of a dual-stack address.
fn parts(address: &Address) -> Vec<Address> {
    if !address.is_dual_stack() {
        return vec![];
    }
    let at = |ip: IpAddr| SocketAddr::new(ip, address.port());
    vec![
        Address { socket: at(Ipv4Addr::UNSPECIFIED.into()), ..address.clone() },
        Address { socket: at(Ipv6Addr::UNSPECIFIED.into()), v6only: true, ..address.clone() },
    ]
}

/// The first port above that nobody has, on any address, and that needs no privilege that lacks.
fn next_port(wish: &BindRequest, machine: &PortLimits, everywhere: &[Address]) -> Option<u16> {
    let first = match machine.may_bind_low {
        true => 1,
        false => machine.unprivileged_port_start.max(1),
    };
    let mut taken: Vec<u16> = everywhere
        .iter()
        .filter(|address| address.protocol == wish.address.protocol)
        .map(Address::port)
        .collect();
    taken.sort_unstable();
    let free = |port: &u16| taken.binary_search(port).is_err();
    // A low port's usual double: 80 and 8080.
    let usual = [(80, 8080), (443, 8443), (53, 5353)];
    let double = usual.iter().find(|(low, _)| *low == wish.address.port()).map(|(_, high)| *high);
    let low = wish.address.port() < machine.unprivileged_port_start
        && wish.address.protocol == Protocol::Tcp;
    let start = double.filter(|_| low && !machine.may_bind_low).unwrap_or(wish.address.port());
    (start.max(first)..=u16::MAX).filter(|port| *port != wish.address.port()).find(free)
}
