//! The eBPF tier: the state of a port, which every run with a member of its groups shares, and `steer`.
//!
//! The state stays in the kernel while it has a member. A run that ends removes the states of its ports that
//! have none; those of a killed run are removed by the next `run`, `steer`, `drain` or `status` that may.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use sameport_policy::capability::question::ProbeAnswer;
use sameport_policy::traffic::plan::TrafficPlan;
use sameport_policy::traffic::{
    SocketId, SteeringTier, TrafficFacts, TrafficMember, TrafficPolicy, TrafficRules, decide,
};
use sameport_sys::bpf::traffic::{
    PreparedTraffic, TrafficCounts, TrafficError, TrafficKey, TrafficOrder, TrafficProgram,
    TrafficState, check_extended_tier,
};
use sameport_sys::inspect::SocketQuery;
use sameport_sys::proc::processors;
use sameport_sys::socket::WorkerSocket;
use sameport_sys::{inspect, netns, probe};

use super::others::{KnownSocket, duplicate, known_sockets, other_members};
use super::port_key::PortKey;
use super::record::TrafficRecord;

/// How often a plan is decided anew because another process has changed the state meanwhile.
const ATTEMPTS: u32 = 20;

const NO_COOKIE: &str = "the network namespace has no cookie";

const STEERED: &str = "another program selects its members; `sameport steer` with --replace puts a policy in \
                       its place";

/// Whether this process can use eBPF programs for groups; the reason if not.
pub(crate) fn available() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    let ask = || match probe::steering_by_ebpf() {
        ProbeAnswer::Yes(_) => Ok(()),
        ProbeAnswer::No(why) | ProbeAnswer::Unknown(why) => Err(why),
    };
    ANSWER.get_or_init(ask).clone()
}

/// The same without an attempt, which binds sockets: for a run without a policy, which only follows the state that
/// `steer` has made.
pub(crate) fn permitted() -> Result<(), String> {
    check_extended_tier().map_err(|error| error.to_string())
}

/// A socket of this run.
pub(crate) struct SteeredSocket<'a> {
    pub(crate) socket: &'a WorkerSocket,
    pub(crate) member: TrafficMember,
}

/// What this run wants for a port.
pub(crate) struct PortOrder<'a> {
    pub(crate) port: PortKey,
    /// `None`: whatever holds.
    pub(crate) rules: Option<TrafficRules>,
    /// Whether the rules replace those that hold.
    pub(crate) claims: bool,
    /// Whether a group may have a program of classic BPF of this run, which the state replaces.
    pub(crate) replaces: bool,
    pub(crate) own: Vec<SteeredSocket<'a>>,
    /// Whether a worker of this run is ready. Otherwise its sockets that are admitted get connections only where no
    /// other member does.
    pub(crate) is_ready: bool,
    /// Whether this run admits its new sockets when they are ready.
    pub(crate) holds_newcomers: bool,
    /// Client ports of readiness checks, with the inode of the socket that gets their connections.
    pub(crate) probes: Vec<(u16, u64)>,
}

/// A member of another run, or of none.
pub(crate) struct OtherMember {
    pub(crate) member: TrafficMember,
    /// A duplicate, if the state does not have the socket.
    socket: Option<WorkerSocket>,
}

fn key(port: PortKey) -> Option<TrafficKey> {
    static NETNS: OnceLock<Option<u64>> = OnceLock::new();
    let netns = (*NETNS.get_or_init(|| netns::own_cookie().ok()))?;
    Some(TrafficKey { netns, protocol: port.protocol, port: port.port })
}

/// Whether the port has a state.
pub(crate) fn exists(port: PortKey) -> bool {
    key(port).is_some_and(|key| key.path().exists())
}

fn find(port: PortKey) -> Result<Option<TrafficState>, String> {
    find_state(port).map_err(|error| error.to_string())
}

fn find_state(port: PortKey) -> Result<Option<TrafficState>, TrafficError> {
    key(port).map_or(Ok(None), TrafficState::find)
}

fn recorded(state: &TrafficState) -> Option<TrafficRecord> {
    TrafficRecord::read(&state.record().ok()?)
}

/// Keeps a worker's socket, which is about to listen, from traffic until [`steer`] admits it. Without a state there
/// is nothing to do; on failure it is held back by the next plan.
pub(crate) fn hold_back(port: PortKey, socket: &WorkerSocket) {
    if exists(port)
        && let Ok(Some(state)) = find(port)
    {
        let _ = state.hold_back(socket);
    }
}

/// The rules and the counts of a port.
pub(crate) fn counts(port: PortKey) -> Option<(TrafficRules, TrafficCounts)> {
    let state = find(port).ok()??;
    Some((recorded(&state)?.rules, state.snapshot()))
}

/// Loads what the rules need on a port with groups on `addresses` addresses. It takes 50 to 500 ms, on a busy machine
/// seconds: the caller has no lock.
pub(crate) fn prepare(
    port: PortKey,
    rules: &TrafficRules,
    addresses: usize,
) -> Result<PreparedTraffic, String> {
    let key = key(port).ok_or(NO_COOKIE)?;
    let program = program_of(port, rules);
    PreparedTraffic::load(key, program, addresses).map_err(|error| error.to_string())
}

/// The program that follows these rules.
pub(crate) fn program_of(port: PortKey, rules: &TrafficRules) -> TrafficProgram {
    let TrafficRules { policy, connection_ids, .. } = rules.followed(port.protocol);
    TrafficProgram { protocol: port.protocol, policy, connection_ids }
}

fn is_same_program(port: PortKey, one: &TrafficRules, other: &TrafficRules) -> bool {
    program_of(port, one) == program_of(port, other)
}

/// Whether the state of a port has the program that follows these rules.
pub(crate) fn has_program_for(port: PortKey, rules: &TrafficRules) -> bool {
    let held = find(port).ok().flatten().as_ref().and_then(recorded);
    held.is_some_and(|held| is_same_program(port, &held.rules, rules))
}

/// Makes the kernel follow the rules of a port. Says what had replaced them, if something had. What is not
/// `prepared` is loaded here.
pub(crate) fn steer(
    order: &PortOrder<'_>,
    mut prepared: Option<PreparedTraffic>,
) -> Result<Option<String>, String> {
    // Where others change the state all the time, the last decision is as good as any.
    for left in (0..ATTEMPTS).rev() {
        if let Some(replaced) = try_to_steer(order, &mut prepared, left == 0)? {
            return Ok(replaced);
        }
    }
    Ok(None)
}

/// The state of the port, and whether one of another version is there instead that the run replaces: the program of an
/// earlier build knows no new socket.
fn find_for(order: &PortOrder<'_>) -> Result<(Option<TrafficState>, bool), String> {
    match find_state(order.port) {
        Err(TrafficError::OtherLayout(_)) if order.rules.is_some() => Ok((None, true)),
        found => Ok((found.map_err(|error| error.to_string())?, false)),
    }
}

/// Makes the state of a port. `replaces`: in the place of one of another version.
fn install(
    port: PortKey,
    to: TrafficOrder<'_>,
    prepared: Option<PreparedTraffic>,
    replaces: bool,
) -> Result<TrafficState, String> {
    let key = key(port).ok_or(NO_COOKIE)?;
    let made = match replaces {
        true => TrafficState::install(key, to, true),
        false => TrafficState::install_prepared(key, to, prepared),
    };
    made.map_err(|error| error.to_string())
}

/// `None`: another process has changed the state since it was read. `anyway`: that does not matter.
fn try_to_steer(
    order: &PortOrder<'_>,
    prepared: &mut Option<PreparedTraffic>,
    anyway: bool,
) -> Result<Option<Option<String>>, String> {
    let (found, is_outdated) = find_for(order)?;
    let edition = found.as_ref().map(TrafficState::edition);
    let before = found.as_ref().and_then(|state| state.record().ok()).unwrap_or_default();
    let record = TrafficRecord::read(&before);
    let drained = record.as_ref().map(|record| record.drained.clone()).unwrap_or_default();
    let owners = record.as_ref().map(|record| record.owners.clone()).unwrap_or_default();
    let held = record.map(|record| record.rules);
    let wanted = match (&order.rules, held.clone()) {
        (None, None) => return Ok(Some(None)),
        (None, Some(held)) => held,
        (Some(rules), Some(held)) if !order.claims => TrafficRules { canary: rules.canary, ..held },
        (Some(rules), _) => rules.clone(),
    };
    let known = found.as_ref().map(known_sockets).unwrap_or_default();
    let others = others(order, &known);
    // The share of a canary is set by the run that has it.
    let is_of_others = others.iter().any(|other| other.member.canary)
        && !order.own.iter().any(|own| own.member.canary);
    let rules = match held.as_ref().and_then(|held| held.canary) {
        share @ Some(_) if is_of_others => TrafficRules { canary: share, ..wanted },
        _ => wanted,
    };
    let waits = !order.is_ready && others.iter().any(|other| other.member.admitted);
    let own = order.own.iter().map(|own| {
        let is_drained = own.member.socket.cookie.is_some_and(|cookie| drained.contains(&cookie));
        let admitted = own.member.admitted && !is_drained && !waits;
        TrafficMember { admitted, ..own.member.clone() }
    });
    let members = own.chain(others.iter().map(|other| other.member.clone())).collect();
    let mut facts = TrafficFacts::new(order.port.protocol, members);
    facts.holds_newcomers = order.holds_newcomers && others.is_empty();
    if matches!(rules.policy, TrafficPolicy::Cpu | TrafficPolicy::Numa) {
        facts.processors = processors();
    }
    let plan = decide(&facts, &rules.followed(order.port.protocol), SteeringTier::Extended)
        .map_err(|why| why.to_string())?;
    let duplicates = others.iter().filter_map(|other| other.socket.as_ref());
    let sockets: Vec<&WorkerSocket> =
        order.own.iter().map(|own| own.socket).chain(duplicates).collect();
    let replaced = found.as_ref().and_then(|state| replaced(state, &facts.members));
    let state = match found {
        Some(state) if held.as_ref() == Some(&rules) => {
            let since = edition.filter(|_| !anyway);
            if !apply(&state, &plan, &sockets, since, replaced.is_some())? {
                return Ok(None);
            }
            state
        }
        found => {
            if found.is_none() && !is_outdated && !order.replaces && is_steered(order) {
                return Err(STEERED.to_owned());
            }
            let same_program = held.is_some_and(|held| is_same_program(order.port, &held, &rules));
            let record = TrafficRecord { rules, drained, owners }.text();
            let to = TrafficOrder { record: &record, plan: &plan, sockets: &sockets };
            let amended = found.filter(|_| same_program && replaced.is_none());
            let done = match amended {
                Some(state) => amend(state, to, &before)?,
                None => Some(install(order.port, to, prepared.take(), is_outdated)?),
            };
            let Some(state) = done else { return Ok(None) };
            state
        }
    };
    let cookie = |inode: u64| {
        order.own.iter().find(|it| it.member.socket.inode == inode)?.member.socket.cookie
    };
    let probes = order.probes.iter().filter_map(|(port, inode)| Some((*port, cookie(*inode)?)));
    state.set_probes(&probes.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
    Ok(Some(replaced))
}

/// Follows another plan by the same rules. `false`: the state has changed `since` this edition.
fn apply(
    state: &TrafficState,
    plan: &TrafficPlan,
    sockets: &[&WorkerSocket],
    since: Option<u32>,
    is_replaced: bool,
) -> Result<bool, String> {
    let applied = match since {
        Some(since) => state.apply_if_same(plan, sockets, since),
        None => state.apply(plan, sockets).map(|()| true),
    };
    let applied = applied.map_err(|error| error.to_string())?;
    if applied && is_replaced {
        state.attach_again(plan, sockets).map_err(|error| error.to_string())?;
    }
    Ok(applied)
}

/// `None`: another process has changed the state since its record was read.
fn amend(
    state: TrafficState,
    to: TrafficOrder<'_>,
    before: &str,
) -> Result<Option<TrafficState>, String> {
    match state.amend(to, before) {
        Ok(true) => Ok(Some(state)),
        Ok(false) | Err(TrafficError::Changed) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// What selects the members of a port in place of its state: any process with a socket of the group, or a
/// duplicate of one, can attach a program. `None` also without the rights to see it.
fn replaced(state: &TrafficState, members: &[TrafficMember]) -> Option<String> {
    let sockets: Vec<SocketId> = members.iter().map(|member| member.socket).collect();
    let first = state.replaced(&sockets).ok()?.into_iter().next()?;
    first.program.map(|program| program.to_string())
}

/// The members of the port's groups that are not of this run.
pub(crate) fn others_of(port: PortKey, own: &[TrafficMember]) -> Vec<TrafficMember> {
    let known = find(port).ok().flatten().as_ref().map(known_sockets).unwrap_or_default();
    let own: Vec<&TrafficMember> = own.iter().collect();
    other_members(port, &own, &known).into_iter().map(|(_, member)| member).collect()
}

fn others(order: &PortOrder<'_>, known: &BTreeMap<u64, KnownSocket>) -> Vec<OtherMember> {
    let own: Vec<&TrafficMember> = order.own.iter().map(|own| &own.member).collect();
    let found = other_members(order.port, &own, known).into_iter().map(|(seen, member)| {
        let is_known = known.contains_key(&seen.socket.cookie);
        let socket = if is_known { None } else { duplicate(&seen) };
        OtherMember { member, socket }
    });
    found.collect()
}

/// Whether another program selects the members of a group of the run.
fn is_steered(order: &PortOrder<'_>) -> bool {
    let inodes: BTreeSet<u64> = order.own.iter().map(|own| own.member.socket.inode).collect();
    let query = SocketQuery::only(order.port.protocol).on(order.port.port);
    let members = inspect::list_sockets(&query).map(|seen| seen.members).unwrap_or_default();
    let own = members.iter().filter(|member| inodes.contains(&member.socket.inode));
    own.filter_map(|member| member.position).any(|position| position.steered)
}

/// Removes the state of a port, after which the kernel's hash selects.
pub(crate) fn remove(port: PortKey, sockets: &[&WorkerSocket]) -> Result<(), String> {
    match find(port)? {
        Some(state) => state.remove(sockets).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

/// Removes the states of these ports that have no member.
pub(crate) fn remove_empty(ports: impl IntoIterator<Item = PortKey>) {
    ports.into_iter().filter_map(key).for_each(remove_if_empty);
}

/// Removes every state without a member: those of runs that were killed.
pub(crate) fn remove_stale() {
    TrafficState::remove_stale();
}

fn remove_if_empty(key: TrafficKey) {
    if let Ok(Some(state)) = TrafficState::find(key)
        && state.snapshot().members.is_empty()
    {
        // Another process may have removed it.
        let _ = state.remove(&[]);
    }
}
