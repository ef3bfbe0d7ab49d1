//! What should hold for the members of a group: a plan, from facts and rules.
//!
//! [`check`] is for rules that a user gives: it refuses a selector without a member. [`decide`] is for
//! rules that hold already: members come and go, and a value without a member waits for one.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Processor, SocketId, TrafficFacts, TrafficMember};
use super::model::{CanaryShare, MemberSelector, SteeringTier, TrafficPolicy, TrafficRules};
use super::refusal::TrafficRefusal;
use super::values;
use crate::model::Protocol;

/// The most members of a plan.
pub const MAX_MEMBERS: usize = 1024;

/// What happens with a member that joins after the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newcomers {
    /// It gets connections at once.
    Admit,
    /// It gets nothing until it is admitted.
    HoldBack,
}

/// What should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficPlan {
    /// TCP or UDP. A policy that is random for connections of TCP goes by the flow for UDP.
    pub protocol: Protocol,
    /// The policy.
    pub policy: TrafficPolicy,
    /// What happens with members that join.
    pub newcomers: Newcomers,
    /// The weight of a member that joins, in the unit of the weights of the members.
    pub newcomer_weight: u32,
    /// The members, by run, worker, pid and inode.
    pub members: Vec<PlannedMember>,
    /// The share of the canaries. `None` also if either kind has no admitted member with a weight.
    pub canary: Option<CanaryShare>,
    /// Whether a datagram of QUIC goes to the socket that its connection id names, also if that member
    /// gets nothing new.
    pub connection_ids: bool,
    /// For `cpu` and `numa`: the place of each processor, which [`PlannedMember::place`] refers to.
    pub places: BTreeMap<u32, u32>,
}

/// One member of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMember {
    /// Its sockets, one for each address.
    pub sockets: Vec<SocketId>,
    /// The process that serves it.
    pub pid: Option<i32>,
    /// What `sticky` knows it by: equal for every instance of a worker, else of its first socket.
    pub key: u64,
    /// Its part of new connections, relative to the others. The sum over all members is below 2³².
    pub weight: u32,
    /// Its rank; 0 serves first.
    pub rank: u8,
    /// Whether it is a canary.
    pub canary: bool,
    /// Whether it gets new connections.
    pub admitted: bool,
    /// For `cpu` its processor, for `numa` its node.
    pub place: Option<u32>,
}

impl PlannedMember {
    /// Whether it can get a connection: it is admitted, and its weight is not 0.
    #[must_use]
    pub fn takes(&self) -> bool {
        self.admitted && self.weight > 0
    }
}

impl TrafficRules {
    /// The rules that eBPF follows for these: the kernel's own hash cannot leave a member out, so the default
    /// policy is in its place.
    #[must_use]
    pub fn followed(&self, protocol: Protocol) -> Self {
        match self.policy {
            TrafficPolicy::Hash => Self {
                policy: TrafficPolicy::default_of(SteeringTier::Extended, protocol),
                ..self.clone()
            },
            _ => self.clone(),
        }
    }
}

/// What holds for these rules: values whose member is gone, or is not there yet, have no effect. If the
/// weights of all admitted members are 0, the plan says so, and the kernel's hash selects among all.
///
/// # Errors
///
/// [`TrafficRefusal`] if the tier or the protocol cannot do it.
pub fn decide(
    facts: &TrafficFacts,
    rules: &TrafficRules,
    tier: SteeringTier,
) -> Result<TrafficPlan, TrafficRefusal> {
    possible(facts, rules, tier)?;
    let joined = join_sockets(&facts.members);
    if joined.len() > MAX_MEMBERS {
        return Err(TrafficRefusal::TooMany(joined.len()));
    }
    let values = values::assign(&joined, rules);
    let places = places(facts, rules.policy);
    let mut dealt = deal(&places);
    let members: Vec<PlannedMember> = joined
        .iter()
        .zip(values.members)
        .zip(keys(&joined))
        .map(|((sockets, (weight, rank)), key)| {
            let place = place(sockets, rules.policy).or_else(|| dealt.next());
            planned(sockets, weight, rank, key, place)
        })
        .collect();
    let takes = |canary: bool| members.iter().any(|it| it.takes() && it.canary == canary);
    Ok(TrafficPlan {
        protocol: facts.protocol,
        policy: rules.policy,
        newcomers: match facts.holds_newcomers {
            true => Newcomers::HoldBack,
            false => Newcomers::Admit,
        },
        newcomer_weight: values.newcomer,
        canary: rules.canary.filter(|_| takes(true) && takes(false)),
        connection_ids: rules.connection_ids,
        members,
        places,
    })
}

/// Whether rules that a user gives make sense for these members, and [`decide`] has a plan for them.
///
/// # Errors
///
/// [`TrafficRefusal`]: also for a selector without a member, for weights that are all 0, and for a group
/// without a choice.
pub fn check(
    facts: &TrafficFacts,
    rules: &TrafficRules,
    tier: SteeringTier,
) -> Result<(), TrafficRefusal> {
    let joined = join_sockets(&facts.members);
    values::check(&joined, rules)?;
    if joined.len() < 2 {
        return Err(TrafficRefusal::OneMember(joined.len()));
    }
    let plan = decide(facts, rules, tier)?;
    let none_admitted = !plan.members.iter().any(|member| member.admitted);
    let mut counted = plan.members.iter().filter(|member| member.admitted || none_admitted);
    if counted.all(|member| member.weight == 0) {
        return Err(TrafficRefusal::AllZero);
    }
    Ok(())
}

/// The members that a selector names: the sockets of each.
///
/// # Errors
///
/// [`TrafficRefusal::UnknownSelector`] without one.
pub fn select(
    facts: &TrafficFacts,
    selector: &MemberSelector,
) -> Result<Vec<Vec<SocketId>>, TrafficRefusal> {
    let joined = join_sockets(&facts.members);
    let found = values::selected(&joined, selector)?;
    Ok(found.iter().map(|sockets| sockets.iter().map(|it| it.socket).collect()).collect())
}

/// Whether the tier and the protocol can do the policy.
fn possible(
    facts: &TrafficFacts,
    rules: &TrafficRules,
    tier: SteeringTier,
) -> Result<(), TrafficRefusal> {
    use TrafficPolicy as P;
    let policy = rules.policy;
    if facts.protocol == Protocol::Udp && matches!(policy, P::LeastConnections | P::TwoChoices) {
        let why = "the kernel knows no connections to count";
        return Err(TrafficRefusal::Protocol(policy, facts.protocol, why));
    }
    if rules.connection_ids && facts.protocol == Protocol::Tcp {
        return Err(TrafficRefusal::ConnectionIds("TCP has no connection ids: they are of QUIC"));
    }
    if rules.connection_ids && policy == P::Hash {
        let why = "the kernel's own hash reads no connection ids";
        return Err(TrafficRefusal::ConnectionIds(why));
    }
    if tier == SteeringTier::Extended {
        return Ok(());
    }
    let why = match policy {
        P::RoundRobin => Some("its programs keep nothing between two connections"),
        P::LeastConnections | P::TwoChoices => Some("its programs cannot read counts"),
        _ => None,
    };
    if let Some(why) = why {
        return Err(TrafficRefusal::Tier(policy, tier, why));
    }
    let is_plain = policy == P::Hash && facts.members.iter().all(|member| member.admitted);
    match &facts.order_unknown {
        Some(why) if !is_plain || rules.canary.is_some() => {
            Err(TrafficRefusal::UnknownMembers(policy, why.clone()))
        }
        _ => Ok(()),
    }
}

/// Joins the sockets that one process has on several addresses: the first on each address are one
/// member, the second on each are another. Of sockets without a known process, each is a member.
pub(super) fn join_sockets(sockets: &[TrafficMember]) -> Vec<Vec<&TrafficMember>> {
    let mut sorted: Vec<&TrafficMember> = sockets.iter().collect();
    sorted.sort_by_key(|it| (&it.run, it.worker, it.canary, it.pid, it.socket.inode));
    let mut members: Vec<Vec<&TrafficMember>> = vec![];
    for socket in sorted {
        let has_owner = socket.pid.is_some() || socket.worker.is_some();
        let owner = |it: &TrafficMember| (it.run.clone(), it.worker, it.pid, it.canary);
        let fits = |member: &&mut Vec<&TrafficMember>| {
            has_owner
                && owner(member[0]) == owner(socket)
                && member.iter().all(|other| other.address != socket.address)
        };
        match members.iter_mut().find(fits) {
            Some(member) => member.push(socket),
            None => members.push(vec![socket]),
        }
    }
    members
}

fn planned(
    sockets: &[&TrafficMember],
    weight: u32,
    rank: u8,
    key: u64,
    place: Option<u32>,
) -> PlannedMember {
    PlannedMember {
        sockets: sockets.iter().map(|it| it.socket).collect(),
        pid: sockets[0].pid,
        key,
        weight,
        rank,
        canary: sockets[0].canary,
        admitted: sockets.iter().all(|it| it.admitted),
        place,
    }
}

/// The processor or the node that the program chose.
fn place(sockets: &[&TrafficMember], policy: TrafficPolicy) -> Option<u32> {
    sockets.iter().find_map(|it| match policy {
        TrafficPolicy::Cpu => it.incoming_cpu,
        TrafficPolicy::Numa => it.node,
        _ => None,
    })
}

/// The keys of the members. Those of one process are told apart by their order.
fn keys(members: &[Vec<&TrafficMember>]) -> Vec<u64> {
    let mut earlier = BTreeMap::<_, u16>::new();
    let mut keys = vec![];
    for sockets in members {
        let first = sockets[0];
        let owner = (&first.run, first.worker, first.pid, first.canary);
        let order = earlier.entry(owner).and_modify(|count| *count += 1).or_insert(0);
        keys.push(key(first, *order));
    }
    keys
}

/// A number that depends on the worker and on the order of its members, else on the socket (FNV-1a).
fn key(socket: &TrafficMember, order: u16) -> u64 {
    let Some((run, worker)) = socket.run.as_ref().zip(socket.worker) else {
        return socket.socket.inode;
    };
    let bytes = run.as_str().bytes().chain(worker.to_be_bytes()).chain(order.to_be_bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// The place of each processor: itself, or its node.
fn places(facts: &TrafficFacts, policy: TrafficPolicy) -> BTreeMap<u32, u32> {
    let place = |it: &Processor| match policy {
        TrafficPolicy::Cpu => Some((it.number, it.number)),
        TrafficPolicy::Numa => Some((it.number, it.node)),
        _ => None,
    };
    facts.processors.iter().filter_map(place).collect()
}

/// The places in turn, for members that have none of their own.
fn deal(places: &BTreeMap<u32, u32>) -> impl Iterator<Item = u32> + use<> {
    let distinct: BTreeSet<u32> = places.values().copied().collect();
    distinct.into_iter().collect::<Vec<_>>().into_iter().cycle()
}

#[cfg(test)]
mod datagrams;
#[cfg(test)]
mod tests;
