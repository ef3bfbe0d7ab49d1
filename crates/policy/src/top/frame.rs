//! A frame: groups and members with their rates, states and totals.

use std::collections::BTreeMap;
use std::time::Duration;

use sameport_addr::{Address, Protocol};

use super::connections::ConnectionCounts;
use super::facts::{TopListener, TopLook, TopPhase, TopTraffic};
use super::member_key::{GroupKey, MemberKey, member_keys};
use crate::model::Process;
use crate::traffic::model::{SteeringTier, TrafficRules};
use crate::traffic::status::{MemberState, MemberTraffic};

/// What a member does with new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopState {
    /// It gets its share.
    Serving,
    /// It gets none, because it is not ready.
    HeldBack,
    /// It gets none, and finishes those it has.
    Draining,
    /// Connections wait in its queue, and it accepts none.
    Hung,
    /// A supervisor keeps the socket open; no process serves it.
    Kept,
    /// It is not in the plan of the policy.
    Foreign,
    /// Its socket is closed.
    Gone,
}

impl TopState {
    /// The word of the output and of JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::HeldBack => "held-back",
            Self::Draining => "draining",
            Self::Hung => "hung",
            Self::Kept => "kept",
            Self::Foreign => "foreign",
            Self::Gone => "gone",
        }
    }
}

impl From<MemberState> for TopState {
    fn from(state: MemberState) -> Self {
        match state {
            MemberState::Serving => Self::Serving,
            MemberState::HeldBack => Self::HeldBack,
            MemberState::Draining => Self::Draining,
            MemberState::Hung => Self::Hung,
            MemberState::Gone => Self::Gone,
            MemberState::Foreign => Self::Foreign,
        }
    }
}

/// Everything at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopFrame {
    /// By protocol and port.
    pub groups: Vec<TopGroup>,
    /// The time since the look before; `None` for the first.
    pub since: Option<Duration>,
    /// Connections a second that the network namespace accepted, of every port.
    pub passive_rate: Option<f64>,
    /// Whether every socket has a visible process.
    pub complete: bool,
}

/// The members of a port.
#[derive(Debug, Clone, PartialEq)]
pub struct TopGroup {
    /// Protocol and port.
    pub key: GroupKey,
    /// The addresses, each once.
    pub addresses: Vec<Address>,
    /// `hash`, the name of a policy, or `program` for one that is not sameport's; `None` for a single member and
    /// where it is unknown.
    pub policy: Option<String>,
    /// The mechanism of the policy.
    pub tier: Option<SteeringTier>,
    /// The policy and the values that a user wants.
    pub rules: Option<TrafficRules>,
    /// Why the kernel does not follow the policy.
    pub not_in_force: Option<String>,
    /// By run, worker and pid.
    pub members: Vec<TopMember>,
    /// New connections a second.
    pub opened: Option<f64>,
    /// Open connections, also those whose member is unknown; `None` for UDP.
    pub open: Option<u32>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct TopMember {
    /// Identifies it in later frames.
    pub key: MemberKey,
    /// `web.2`: run and worker.
    pub name: Option<String>,
    /// The run.
    pub run: Option<String>,
    /// The user of the run, if it is not the caller.
    pub user: Option<String>,
    /// The worker's number.
    pub worker: Option<u16>,
    /// Its process; `None` if it is hidden.
    pub process: Option<Process>,
    /// Other processes that have the same sockets open.
    pub others: usize,
    /// New connections a second; `None` without an earlier look, for UDP, and if they cannot be told from
    /// those of another member.
    pub opened: Option<f64>,
    /// Whether the kernel counted them. Otherwise a connection that came and went between two looks is
    /// missing.
    pub exact: bool,
    /// How often the kernel's program chose it; `None` if that is not counted.
    pub(super) chosen: Option<ChosenBefore>,
    /// Open connections.
    pub open: Option<u32>,
    /// Connections (UDP: bytes) that wait.
    pub queue: u32,
    /// The limit of the queue; 0 for UDP.
    pub backlog: u32,
    /// Drops since the creation of the sockets.
    pub drops: Option<u32>,
    /// Restarts after a crash.
    pub restarts: Option<u32>,
    /// The weight, or with the policy `standby` the rank.
    pub weight: Option<u32>,
    /// What it does with new connections.
    pub state: TopState,
}

impl TopMember {
    /// How often the kernel's program chose it; `None` if that is not counted.
    #[must_use]
    pub fn chosen(&self) -> Option<u64> {
        self.chosen.map(|chosen| chosen.count)
    }
}

/// What the looks before add to a look.
pub(super) struct Earlier<'a> {
    /// The time since the look before.
    pub(super) since: Option<Duration>,
    pub(super) counts: &'a ConnectionCounts,
    /// Cookies of listeners that accept nothing.
    pub(super) hung: &'a std::collections::HashSet<u64>,
    /// How often members were chosen, before.
    pub(super) chosen: &'a BTreeMap<(GroupKey, MemberKey), ChosenBefore>,
}

/// How often a member was chosen, by the last answer about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ChosenBefore {
    /// The time of the answer.
    pub(super) at: Duration,
    pub(super) count: u64,
    /// By this answer and the one before.
    pub(super) rate: Option<f64>,
}

impl ChosenBefore {
    /// The rate by another answer. The same answer again says nothing new.
    fn rate_until(self, at: Duration, count: u64) -> Option<f64> {
        match at.saturating_sub(self.at) {
            Duration::ZERO => self.rate,
            since => rate_of(count.saturating_sub(self.count), Some(since)),
        }
    }
}

/// The frame of a look.
pub(super) fn frame(look: &TopLook, earlier: &Earlier<'_>, passive: Option<f64>) -> TopFrame {
    let keys = member_keys(&look.listeners);
    let mut groups: BTreeMap<GroupKey, BTreeMap<MemberKey, Vec<&TopListener>>> = BTreeMap::new();
    for (listener, (group, member)) in look.listeners.iter().zip(&keys) {
        groups.entry(*group).or_default().entry(*member).or_default().push(listener);
    }
    // Several runs can share a port: the one with most of its members knows most.
    let traffic = |key: GroupKey| {
        let on_port =
            |it: &&TopTraffic| (it.status.protocol, it.status.port) == (key.protocol, key.port);
        look.traffic.iter().filter(on_port).max_by_key(|it| it.status.members.len())
    };
    let groups = groups.into_iter();
    let groups = groups.map(|(key, members)| group(key, members, traffic(key), earlier)).collect();
    TopFrame { groups, since: earlier.since, passive_rate: passive, complete: look.complete }
}

fn group(
    key: GroupKey,
    members: BTreeMap<MemberKey, Vec<&TopListener>>,
    traffic: Option<&TopTraffic>,
    earlier: &Earlier<'_>,
) -> TopGroup {
    let mut addresses: Vec<Address> =
        members.values().flatten().map(|listener| listener.address.clone()).collect();
    addresses.sort();
    addresses.dedup();
    let steered = members.values().flatten().find_map(|listener| listener.steered);
    let policy = match (traffic, steered) {
        (Some(traffic), _) => Some(traffic.status.rules.policy.to_string()),
        (None, Some(true)) => Some("program".to_owned()),
        (None, Some(false)) if members.len() > 1 => Some("hash".to_owned()),
        _ => None,
    };
    let is_tcp = key.protocol == Protocol::Tcp;
    let members = members.into_iter();
    let mut members: Vec<TopMember> = members
        .map(|(member_key, sockets)| member(key, member_key, &sockets, traffic, earlier))
        .collect();
    members.sort_by(|a, b| {
        let order = |it: &TopMember| (it.run.is_none(), it.run.clone(), it.worker, it.key);
        order(a).cmp(&order(b))
    });
    let seen = earlier.counts.of_group(key);
    let counted: Vec<f64> =
        members.iter().filter(|it| it.exact).filter_map(|it| it.opened).collect();
    let opened = match counted.is_empty() {
        false => Some(counted.iter().sum()),
        true => rate(seen.opened, earlier.since).filter(|_| is_tcp),
    };
    TopGroup {
        key,
        addresses,
        policy,
        tier: traffic.and_then(|it| it.status.tier),
        rules: traffic.map(|it| it.status.rules.clone()),
        not_in_force: traffic.and_then(|it| it.status.in_force.clone().err()),
        members,
        opened,
        open: is_tcp.then_some(seen.open),
    }
}

fn member(
    group: GroupKey,
    key: MemberKey,
    sockets: &[&TopListener],
    traffic: Option<&TopTraffic>,
    earlier: &Earlier<'_>,
) -> TopMember {
    let worker = sockets.iter().find_map(|socket| socket.worker.as_ref());
    let processes = sockets.first().map_or(&[][..], |socket| socket.processes.as_slice());
    let process = processes.iter().find(|process| process.pid == key.pid);
    let share = traffic.and_then(|it| it.status.members.iter().find(|share| is_of(share, sockets)));
    let seen = earlier.counts.of_member(group, key);
    let counted = share.and_then(|share| share.chosen).zip(traffic.map(|it| it.at));
    let before = earlier.chosen.get(&(group, key));
    let chosen = counted.map(|(count, at)| {
        let rate = before.and_then(|before| before.rate_until(at, count));
        ChosenBefore { at, count, rate }
    });
    let chosen_rate = chosen.and_then(|chosen| chosen.rate);
    let is_tcp = group.protocol == Protocol::Tcp;
    let seen = seen.filter(|_| is_tcp);
    let mut kept = sockets.iter().filter_map(|socket| socket.kept_by.clone());
    let run = worker.map(|worker| worker.run.clone()).or_else(|| kept.next());
    TopMember {
        key,
        name: worker.map(|worker| format!("{}.{}", worker.run, worker.number)).or(run.clone()),
        run,
        user: worker.and_then(|worker| worker.user.clone()),
        worker: worker.map(|worker| worker.number),
        process: process.cloned(),
        others: processes.len().saturating_sub(1),
        opened: chosen_rate.or_else(|| rate(seen?.opened, earlier.since)),
        exact: chosen_rate.is_some(),
        chosen,
        // An answer is older than this look.
        open: seen.map(|seen| seen.open).or(share.and_then(|share| share.open)),
        queue: sockets.iter().map(|socket| socket.queue).fold(0, u32::saturating_add),
        backlog: sockets.iter().map(|socket| socket.backlog).fold(0, u32::saturating_add),
        drops: sockets.iter().map(|socket| socket.drops).sum(),
        restarts: worker.map(|worker| worker.restarts),
        weight: share.and_then(|share| value(share, traffic?)),
        state: state(sockets, share, earlier),
    }
}

/// The rank of a member where the policy has ranks, else its weight.
fn value(share: &MemberTraffic, traffic: &TopTraffic) -> Option<u32> {
    match traffic.status.rules.policy.has_ranks() {
        true => share.rank.map(u32::from),
        false => share.weight,
    }
}

/// Whether a member of the status has one of these sockets.
fn is_of(share: &MemberTraffic, sockets: &[&TopListener]) -> bool {
    sockets.iter().any(|socket| share.inodes.contains(&socket.inode))
}

fn state(
    sockets: &[&TopListener],
    share: Option<&MemberTraffic>,
    earlier: &Earlier<'_>,
) -> TopState {
    let phase = sockets.iter().find_map(|socket| socket.worker.as_ref()).map(|it| it.phase);
    let of_share = share.map_or(TopState::Serving, |share| share.state.into());
    let is_kept = sockets.iter().all(|it| it.processes.is_empty() && it.kept_by.is_some());
    match phase {
        _ if is_kept => TopState::Kept,
        Some(TopPhase::Draining) => TopState::Draining,
        _ if of_share != TopState::Serving => of_share,
        Some(TopPhase::Starting) => TopState::HeldBack,
        _ if sockets.iter().any(|it| earlier.hung.contains(&it.cookie)) => TopState::Hung,
        _ => TopState::Serving,
    }
}

fn rate(count: u32, since: Option<Duration>) -> Option<f64> {
    rate_of(count.into(), since)
}

/// A number of events as events a second.
pub(super) fn rate_of(count: u64, since: Option<Duration>) -> Option<f64> {
    let seconds = since?.as_secs_f64();
    // A count of connections is far below 2⁵³.
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
    (seconds > 0.0).then(|| count as f64 / seconds)
}
