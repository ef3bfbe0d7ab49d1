//! Groups that no supervisor has whole, such as programs that sameport did not start: the pinned state of the
//! port is changed, without a process that stays.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sameport_policy::addr::PortSpec;
use sameport_policy::holder::HolderClass;
use sameport_policy::model::Protocol;
use sameport_policy::traffic::plan::{PlannedMember, decide};
use sameport_policy::traffic::{
    MemberSelector, MemberValue, SteeringTier, TrafficFacts, TrafficPolicy, TrafficRules,
};
use sameport_supervisor::TrafficRecord;
use sameport_sys::bpf::traffic::{TrafficError, TrafficOrder, TrafficState, check_extended_tier};
use sameport_sys::inspect;
use sameport_sys::proc::processors;
use sameport_sys::process::has_cap_sys_ptrace;
use sameport_sys::socket::{SocketAccess, WorkerSocket};

use super::change::{SteerChange, check, refused, require_another, with_values};
use super::error::{Error, NeedOfRights};
use super::facts::facts;
use super::held::{HeldTraffic, key};
use super::port::{MemberSocket, PortMembers};
use super::rights::{need, no_rights, state_error};
use super::supervised::tell_supervisors;

/// What programs of others, and those with more capabilities, need besides: ptrace(2).
const UNSEEN: &str = "CAP_SYS_PTRACE is missing, which duplicates their sockets";

/// Changes the policy of a port.
pub(super) fn steer(port: &PortMembers, change: &SteerChange, replace: bool) -> Result<(), Error> {
    require_tier(port)?;
    let is_off = *change == SteerChange::Off;
    let held = find_or_discard(port, is_off, replace)?;
    if held.is_none() && !replace && !is_off {
        require_unsteered(port)?;
    }
    let drained = held.as_ref().map(|held| held.drained(port)).unwrap_or_default();
    let present = facts_of(port, held.as_ref(), &drained);
    let mut given: &[MemberValue] = &[];
    let rules = match change {
        SteerChange::Off => return remove(port, held, replace),
        SteerChange::On => {
            let policy = TrafficPolicy::default_of(SteeringTier::Extended, port.protocol);
            TrafficRules::new(policy)
        }
        SteerChange::Rules { policy, values, connection_ids } => {
            let hash = || TrafficRules::new(TrafficPolicy::Hash);
            let before = || held.as_ref().map_or_else(hash, |held| held.record.rules.clone());
            let mut rules = match policy {
                Some(policy) => {
                    // The share of a canary is its run's to set.
                    let canary = before().canary;
                    TrafficRules { values: values.clone(), canary, ..TrafficRules::new(*policy) }
                }
                None => with_values(before(), values, &present),
            };
            rules.connection_ids |= connection_ids;
            given = values;
            rules
        }
    };
    let sockets = duplicates(port)?;
    let facts = with_processors(present, &sockets);
    check(port, &facts, &rules, given)?;
    if is_plain_hash(&rules) && drained.is_empty() {
        return remove(port, held, replace);
    }
    install(port, held.as_ref(), rules, &facts, &sockets, replace)
}

/// Gives members no new connections, or gives them new ones again. Returns the policy of the others, if the
/// port had none.
pub(super) fn drain(
    port: &PortMembers,
    selector: &MemberSelector,
    inodes: &BTreeSet<u64>,
    undo: bool,
) -> Result<Option<TrafficPolicy>, Error> {
    let held = HeldTraffic::find(port)?;
    if held.is_none() {
        require_unsteered(port)?;
    }
    let hash = || TrafficRules::new(TrafficPolicy::Hash);
    let rules = held.as_ref().map_or_else(hash, |held| held.record.rules.clone());
    let mut drained = held.as_ref().map(|held| held.drained(port)).unwrap_or_default();
    if undo && drained.is_disjoint(inodes) {
        return Err(Error::NotDrained { port: port.name(), member: selector.clone() });
    }
    match undo {
        true => drained.retain(|inode| !inodes.contains(inode)),
        false => drained.extend(inodes),
    }
    // The policy was there for the drain alone.
    if drained.is_empty() && is_plain_hash(&rules) {
        return remove(port, held, false).map(|()| None);
    }
    let sockets = duplicates(port)?;
    let facts = with_processors(facts_of(port, held.as_ref(), &drained), &sockets);
    let had_none = held.is_none();
    let followed = rules.followed(port.protocol);
    let plan =
        decide(&facts, &followed, SteeringTier::Extended).map_err(|why| refused(port, why))?;
    if !undo {
        require_another(plan.members.iter().any(PlannedMember::takes), port, selector)?;
    }
    install(port, held.as_ref(), rules, &facts, &sockets, false)?;
    Ok(had_none.then_some(followed.policy))
}

/// The facts about the members, by which the state of the port names them, if it has one.
fn facts_of(
    port: &PortMembers,
    held: Option<&HeldTraffic>,
    drained: &BTreeSet<u64>,
) -> TrafficFacts {
    held.map_or_else(|| facts(port, drained), |held| held.facts(port, drained))
}

/// Whether the rules say no more than the kernel does without any.
fn is_plain_hash(rules: &TrafficRules) -> bool {
    rules.policy == TrafficPolicy::Hash && rules.values.is_empty() && rules.canary.is_none()
}

fn install(
    port: &PortMembers,
    held: Option<&HeldTraffic>,
    rules: TrafficRules,
    facts: &TrafficFacts,
    sockets: &BTreeMap<u64, WorkerSocket>,
    replace: bool,
) -> Result<(), Error> {
    let followed = rules.followed(port.protocol);
    let plan =
        decide(facts, &followed, SteeringTier::Extended).map_err(|why| refused(port, why))?;
    let several = port.sockets.iter().filter(|it| it.member.processes.len() > 1);
    let outlives = several.map(|it| it.member.socket.cookie).collect();
    let record = TrafficRecord::new(rules, facts, &outlives).text();
    let sockets: Vec<&WorkerSocket> = sockets.values().collect();
    let order = TrafficOrder { record: &record, plan: &plan, sockets: &sockets };
    let failed = |error| state_error(port, error);
    // Another program takes the kernel some 100 ms; edits of maps take none.
    let same = held.filter(|held| {
        let before = held.record.rules.followed(port.protocol);
        (before.policy, before.connection_ids) == (plan.policy, plan.connection_ids)
    });
    // Of a program that has replaced ours, edits of maps change nothing.
    let same = same.filter(|held| is_steered_whole(port) && held.replaced(port).is_empty());
    let is_amended = match same {
        Some(held) => held.state.amend(order, &held.text).map_err(failed)?,
        None => false,
    };
    if !is_amended {
        let before = held.map(|held| held.text.as_str());
        TrafficState::install_over(key(port)?, order, replace, before).map_err(failed)?;
    }
    tell_supervisors(port);
    Ok(())
}

/// Whether every group of the port has a program.
fn is_steered_whole(port: &PortMembers) -> bool {
    port.sockets.iter().all(|it| it.member.position.is_some_and(|position| position.steered))
}

/// The state of the port. What another version left is removed where `replace` or `off` says so, what is of
/// others only with `replace`.
fn find_or_discard(
    port: &PortMembers,
    off: bool,
    replace: bool,
) -> Result<Option<HeldTraffic>, Error> {
    let error = match HeldTraffic::find(port) {
        Err(Error::State { error, .. }) => error,
        held => return held,
    };
    let is_discarded = match *error {
        TrafficError::OtherLayout(_) => off || replace,
        TrafficError::NotOurs(_) => replace,
        _ => false,
    };
    if !is_discarded {
        return Err(Error::State { port: port.name(), error });
    }
    TrafficState::discard(key(port)?).map_err(|error| state_error(port, error))?;
    // Its programs are still attached.
    detach(port)?;
    Ok(None)
}

/// Removes the policy. `replace`: also the program of another.
fn remove(port: &PortMembers, held: Option<HeldTraffic>, replace: bool) -> Result<(), Error> {
    let Some(held) = held else {
        // What a killed command has left has no part in what the user sees: no error of its removal has.
        let _ = TrafficState::sweep();
        if replace {
            detach(port)?;
        }
        return Ok(());
    };
    // With none of them the programs would stay where members have come meanwhile.
    let sockets = duplicates(port)?;
    let sockets: Vec<&WorkerSocket> = sockets.values().collect();
    held.state.remove(&sockets).map_err(|error| state_error(port, error))?;
    tell_supervisors(port);
    Ok(())
}

/// Detaches the programs of the groups, whosever they are.
fn detach(port: &PortMembers) -> Result<(), Error> {
    for socket in duplicates(port)?.values() {
        // One that is closed meanwhile has none.
        let _ = socket.stop_steering();
    }
    Ok(())
}

/// Refuses to replace the program of another.
fn require_unsteered(port: &PortMembers) -> Result<(), Error> {
    let is_steered = |socket: &MemberSocket| socket.member.position.is_some_and(|it| it.steered);
    match port.sockets.iter().any(is_steered) {
        true => Err(state_error(port, TrafficError::Steered)),
        false => Ok(()),
    }
}

/// No socket takes connections there.
pub(super) fn no_socket(spec: &PortSpec) -> Error {
    let rest = empty_ports(spec).any(|port| !matches!(find_state(&port), Ok(None) | Err(_)));
    Error::NoSocket { on: spec.clone(), rest }
}

/// The ports that are named, as if they had no member.
fn empty_ports(spec: &PortSpec) -> impl Iterator<Item = PortMembers> {
    let (port, protocol) = (spec.addr.port, spec.protocol);
    let protocols = [Protocol::Tcp, Protocol::Udp].into_iter();
    protocols
        .filter(move |it| protocol.is_none_or(|named| named == *it))
        .map(move |protocol| PortMembers { protocol, port, sockets: Vec::new(), open: None })
}

/// The file or directory at the path of the state, of any version; `None` if there is none.
fn find_state(port: &PortMembers) -> Result<Option<()>, Error> {
    match TrafficState::find(key(port)?) {
        Ok(None) => Ok(None),
        Ok(Some(_)) | Err(TrafficError::OtherLayout(_) | TrafficError::NotOurs(_)) => Ok(Some(())),
        Err(error) => Err(state_error(port, error)),
    }
}

/// Removes what is left of ports without a socket. Returns whether something was.
pub(super) fn remove_rests(spec: &PortSpec) -> Result<bool, Error> {
    let mut removed = false;
    for port in empty_ports(spec) {
        if find_state(&port)?.is_some() {
            TrafficState::discard(key(&port)?).map_err(|error| state_error(&port, error))?;
            removed = true;
        }
    }
    Ok(removed)
}

/// Exit code 3 for programs that this user does not see, and without eBPF.
pub(super) fn require_tier(port: &PortMembers) -> Result<(), Error> {
    check_extended_tier().map_err(|why| no_rights(port, &why.to_string()))?;
    let is_unseen = |it: &MemberSocket| matches!(it.holder.class, HolderClass::Unseen);
    match need(port) {
        // Who sees every process: these have ended. Those that are left count.
        NeedOfRights::Unseen if has_cap_sys_ptrace() => match port.sockets.iter().all(is_unseen) {
            true => Err(Error::Vanished(port.name())),
            false => Ok(()),
        },
        NeedOfRights::Unseen => Err(no_rights(port, UNSEEN)),
        _ => Ok(()),
    }
}

/// Duplicates of the sockets, by inode. One that is closed meanwhile is left out.
fn duplicates(port: &PortMembers) -> Result<BTreeMap<u64, WorkerSocket>, Error> {
    let inodes: HashSet<u64> = port.sockets.iter().map(|it| it.member.socket.inode).collect();
    let holders = port.sockets.iter().flat_map(|it| &it.member.processes);
    let pids: BTreeSet<i32> = holders.map(|process| process.pid).collect();
    let pids: Vec<i32> = pids.into_iter().collect();
    let mut sockets = BTreeMap::new();
    for (inode, places) in inspect::descriptors_of(&inodes, &pids) {
        for place in places {
            match WorkerSocket::from_thread(place.pid, place.descriptor) {
                // The number can be of another socket by now.
                Ok(SocketAccess::Socket(socket)) if socket.inode() == inode => {
                    sockets.insert(inode, socket);
                    break;
                }
                Ok(SocketAccess::Forbidden) => {
                    return Err(no_rights(port, UNSEEN));
                }
                _ => {}
            }
        }
    }
    match sockets.is_empty() {
        false => Ok(sockets),
        true if has_cap_sys_ptrace() => Err(Error::Vanished(port.name())),
        true => Err(no_rights(port, UNSEEN)),
    }
}

fn with_processors(mut facts: TrafficFacts, sockets: &BTreeMap<u64, WorkerSocket>) -> TrafficFacts {
    facts.processors = processors();
    for member in &mut facts.members {
        let socket = sockets.get(&member.socket.inode);
        member.incoming_cpu = socket.and_then(WorkerSocket::incoming_cpu);
    }
    facts
}
