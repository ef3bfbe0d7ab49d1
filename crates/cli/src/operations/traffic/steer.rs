//! `steer` and the beginning of `drain`: what a user wants becomes a request to a supervisor, or a change of the
//! kernel's state.

use std::collections::BTreeSet;

use sameport_policy::addr::PortSpec;
use sameport_policy::traffic::plan;
use sameport_policy::traffic::{MemberSelector, TrafficPolicy, TrafficRules, TrafficStatus};

use super::change::{SteerChange, check, refused, require_another, with_values};
use super::direct::{self, no_socket};
use super::drain::DrainedMember;
use super::error::Error;
use super::facts::{facts, socket_id};
use super::port::{self, MemberSocket, PortMembers};
use super::status;
use super::supervised::OnlyRun;

/// Changes the traffic of a port. `replace`: also where another's program selects the members, or something of
/// another version is left. Returns what holds afterwards; `None` where only a rest was removed.
///
/// # Errors
///
/// See [`Error`].
pub(crate) fn steer(
    spec: &PortSpec,
    change: &SteerChange,
    replace: bool,
) -> Result<Option<TrafficStatus>, Error> {
    again_if_vanished(|| {
        let found = port::members(spec)?;
        if *change == SteerChange::Off && found.is_empty() {
            return match direct::remove_rests(spec)? {
                true => Ok(None),
                false => Err(no_socket(spec)),
            };
        }
        let port = one_port(spec, found)?;
        match OnlyRun::of(&port) {
            Some(run) => by_supervisor(&run, &port, change)?,
            None => direct::steer(&port, change, replace)?,
        }
        match port::of_protocol(port.protocol, port.port, None)? {
            Some(now) => Ok(Some(status::of_port(&now))),
            None => Err(Error::Vanished(port.name())),
        }
    })
}

/// Looks again where the members that were listed have gone, as others may be there by now, and where another
/// command has changed the policy since it was read.
fn again_if_vanished<T>(mut change: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    const LOOKS: usize = 10;
    for _ in 1..LOOKS {
        match change() {
            Err(Error::Vanished(_) | Error::Changed(_)) => {}
            done => return done,
        }
    }
    change()
}

fn by_supervisor(run: &OnlyRun, port: &PortMembers, change: &SteerChange) -> Result<(), Error> {
    match change {
        SteerChange::On => run.steer_by_default(),
        SteerChange::Off => run.steer(None),
        SteerChange::Rules { policy, values, connection_ids } => {
            let facts = facts(port, &BTreeSet::new());
            let mut rules = match policy {
                Some(policy) => {
                    TrafficRules { values: values.clone(), ..TrafficRules::new(*policy) }
                }
                None => with_values(run.status()?.rules, values, &facts),
            };
            rules.connection_ids |= connection_ids;
            check(port, &facts, &rules, values)?;
            run.steer(Some(rules))
        }
    }
}

/// The port of the one protocol that has members there.
fn one_port(spec: &PortSpec, mut found: Vec<PortMembers>) -> Result<PortMembers, Error> {
    match (found.pop(), found.is_empty()) {
        (Some(port), true) => Ok(port),
        (Some(_), false) => Err(Error::TwoProtocols(spec.addr.clone())),
        (None, _) => Err(no_socket(spec)),
    }
}

/// A drain that has begun.
#[derive(Debug)]
pub(crate) struct DrainBegun {
    pub(crate) port: PortMembers,
    pub(crate) members: Vec<DrainedMember>,
    /// What the other members get from now on, where there was no policy.
    pub(crate) policy: Option<TrafficPolicy>,
}

/// Gives members no new connections, or gives them new ones again.
///
/// # Errors
///
/// See [`Error`].
pub(crate) fn drain(
    spec: &PortSpec,
    selector: &MemberSelector,
    undo: bool,
) -> Result<DrainBegun, Error> {
    again_if_vanished(|| drain_once(spec, selector, undo))
}

fn drain_once(spec: &PortSpec, selector: &MemberSelector, undo: bool) -> Result<DrainBegun, Error> {
    let port = one_port(spec, port::members(spec)?)?;
    let run = OnlyRun::of(&port);
    if run.is_none() {
        // Who does not see the members cannot name one.
        direct::require_tier(&port)?;
    }
    let all = facts(&port, &BTreeSet::new());
    let selected = plan::select(&all, selector).map_err(|refusal| refused(&port, refusal))?;
    let inodes: BTreeSet<u64> = selected.iter().flatten().map(|id| id.inode).collect();
    let policy = match run {
        Some(run) => {
            if !undo {
                let is_left = status::takes_beside(&status::of_port(&port), &inodes);
                require_another(is_left, &port, selector)?;
            }
            run.drain(selector, undo).map(|()| None)?
        }
        None => direct::drain(&port, selector, &inodes, undo)?,
    };
    let members = selected.iter().map(|ids| {
        let inodes: BTreeSet<u64> = ids.iter().map(|id| id.inode).collect();
        drained(&port, &inodes)
    });
    Ok(DrainBegun { members: members.collect(), port: port.clone(), policy })
}

fn drained(port: &PortMembers, inodes: &BTreeSet<u64>) -> DrainedMember {
    let sockets = port.sockets.iter().filter(|it| inodes.contains(&it.member.socket.inode));
    let sockets: Vec<&MemberSocket> = sockets.collect();
    let first = sockets.first();
    let pids: BTreeSet<i32> = sockets.iter().flat_map(|it| &it.pids).copied().collect();
    let main = first.and_then(|it| it.pid());
    DrainedMember {
        pids: main.into_iter().chain(pids.into_iter().filter(|pid| Some(*pid) != main)).collect(),
        program: first.map(|it| it.program().to_owned()).unwrap_or_default(),
        run: first.and_then(|it| it.run.clone()),
        worker: first.and_then(|it| it.worker),
        sockets: sockets.iter().map(|it| socket_id(it)).collect(),
        is_there: true,
        queue: 0,
        open: None,
    }
}
