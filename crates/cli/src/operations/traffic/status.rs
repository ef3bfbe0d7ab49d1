//! What holds for the traffic of a port.

use std::collections::{BTreeMap, BTreeSet};

use sameport_policy::addr::PortSpec;
use sameport_policy::model::Protocol;
use sameport_policy::traffic::facts::TrafficFacts;
use sameport_policy::traffic::model::{SteeringTier, TrafficPolicy, TrafficRules};
use sameport_policy::traffic::plan::{PlannedMember, decide};
use sameport_policy::traffic::remarks::remarks;
use sameport_policy::traffic::shares::wanted_shares;
use sameport_policy::traffic::status::{MemberState, MemberTraffic, TrafficStatus};
use sameport_sys::bpf::traffic::MemberCounts;

use super::direct::no_socket;
use super::error::Error;
use super::facts::facts;
use super::held::{HeldTraffic, is_held};
use super::port::{self, MemberSocket, PortMembers};
use super::supervised::OnlyRun;

/// What holds for the ports that `spec` names: TCP, then UDP.
///
/// # Errors
///
/// Without a socket there, and if the sockets cannot be listed.
pub(crate) fn show(spec: &PortSpec) -> Result<Vec<TrafficStatus>, Error> {
    let ports = port::members(spec)?;
    if ports.is_empty() {
        return Err(no_socket(spec));
    }
    Ok(ports.iter().map(of_port).collect())
}

/// One line about the policy that sameport has for a port; `None` without one.
pub(crate) fn selection(protocol: Protocol, port: u16) -> Option<String> {
    let members = port::of_protocol(protocol, port, None).ok().flatten()?;
    let status = of_port(&members);
    let by = format!("selected by sameport: {} ({})", status.rules, status.tier?);
    Some(match &status.in_force {
        Ok(()) => format!("connections are {by}"),
        Err(why) => format!("connections are not {by}: {why}"),
    })
}

/// What holds for a port: as its supervisor says, as the state of the kernel has it, else as it is seen from
/// outside.
pub(super) fn of_port(port: &PortMembers) -> TrafficStatus {
    let Some(run) = OnlyRun::of(port) else { return of_kernel(port) };
    run.status().unwrap_or_else(|_| {
        let mut status = of_kernel(port);
        // A run that does not hold its sockets (--no-hold) has a state that says it.
        if status.tier.is_none() {
            status.remarks.push(format!(
                "the supervisor of {} does not say what holds: `sameport status {0}` shows why",
                run.name()
            ));
        }
        status
    })
}

fn of_kernel(port: &PortMembers) -> TrafficStatus {
    match HeldTraffic::find(port) {
        Ok(Some(held)) => steered(port, &held),
        Ok(None) => unsteered(port),
        Err(Error::State { error, .. }) => {
            let mut status = unsteered(port);
            status.remarks.push(format!("{error}; --replace puts a policy in its place"));
            status
        }
        Err(_) => unread(port),
    }
}

/// The traffic of a port with a state.
fn steered(port: &PortMembers, held: &HeldTraffic) -> TrafficStatus {
    let rules = held.record.rules.followed(port.protocol);
    let drained = held.drained(port);
    let (counts, _) = held.counts();
    // A member that is not in the state gets nothing.
    let sockets = port.sockets.iter().map(|it| &it.member.socket);
    let foreign = sockets.filter(|it| !counts.contains_key(&it.cookie)).map(|it| it.inode);
    let left_out = foreign.chain(drained.iter().copied()).collect();
    let mut status = status(port, rules, &held.facts(port, &left_out));
    let cookies: BTreeMap<u64, u64> =
        port.sockets.iter().map(|it| (it.member.socket.inode, it.member.socket.cookie)).collect();
    let (mut choices, mut counted) = (0, BTreeSet::new());
    for member in &mut status.members {
        let of = member.inodes.iter().filter_map(|inode| counts.get(cookies.get(inode)?));
        // The sockets of one member can be several in the state, until it is written again.
        let of: BTreeMap<u32, &MemberCounts> = of.map(|counts| (counts.number, counts)).collect();
        // One member of the state can have sockets of two, until then.
        let own: Vec<_> = of.values().filter(|counts| counted.insert(counts.number)).collect();
        let chosen: u64 = own.iter().map(|counts| counts.chosen).sum();
        choices += chosen;
        member.chosen = Some(chosen);
        if port.protocol == Protocol::Tcp {
            // A connection that is older than the state may not be counted there.
            let open = own.iter().map(|counts| counts.open).sum();
            member.open = Some(member.open.unwrap_or(0).max(open));
        }
        let is_drained = member.inodes.iter().any(|inode| drained.contains(inode));
        member.state = match of.values().next() {
            _ if is_drained => MemberState::Draining,
            None => MemberState::Foreign,
            Some(_) if of.values().any(|counts| counts.hung || counts.full) => MemberState::Hung,
            Some(_) => MemberState::Serving,
        };
    }
    for member in &mut status.members {
        let share = |chosen: u64| chosen as f64 / choices as f64;
        member.share_seen = member.chosen.filter(|_| choices > 0).map(share);
    }
    status.choices = Some(choices);
    status.tier = Some(SteeringTier::Extended);
    let positions: Vec<_> = port.sockets.iter().filter_map(|it| it.member.position).collect();
    if !positions.is_empty() && !positions.iter().all(|position| position.steered) {
        status.in_force = Err(format!(
            "a group of {} began after it: `sameport steer {0} {}` sets it again",
            port.name(),
            status.rules
        ));
    }
    if let Some((ip, by)) = held.replaced(port).into_iter().find(|_| status.in_force.is_ok()) {
        status.in_force = Err(format!(
            "{by} selects on {ip}: `sameport steer {} {}` sets the policy again",
            port.name(),
            status.rules
        ));
        status.remarks.push(
            "a process that has a socket of the group open has attached it: one of the members above, or one \
             that has gone"
                .to_owned(),
        );
    }
    if held.record.rules.policy == TrafficPolicy::Hash && !drained.is_empty() {
        status.remarks.push(format!(
            "{} holds while a member is drained, and ends with the last `sameport drain --undo`",
            status.rules
        ));
    }
    status
}

/// Whether a member beside these sockets gets new connections.
pub(super) fn takes_beside(status: &TrafficStatus, inodes: &BTreeSet<u64>) -> bool {
    status.members.iter().any(|member| {
        member.state == MemberState::Serving
            && member.weight != Some(0)
            && !member.inodes.iter().any(|inode| inodes.contains(inode))
    })
}

/// The traffic of a port for which sameport has no policy.
fn unsteered(port: &PortMembers) -> TrafficStatus {
    let rules = TrafficRules::new(TrafficPolicy::Hash);
    let is_steered = |socket: &MemberSocket| socket.member.position.is_some_and(|it| it.steered);
    let mut status = status(port, rules, &facts(port, &BTreeSet::new()));
    if port.sockets.iter().any(is_steered) {
        status.in_force = Err("a program of another selects the member".to_owned());
        status.remarks.push(
            "which program it is, the kernel does not say; --replace puts a policy in its place"
                .to_owned(),
        );
        status.members.iter_mut().for_each(|member| member.share_wanted = None);
    }
    status
}

/// The traffic of a port whose state, if it has one, this user has no rights to read.
fn unread(port: &PortMembers) -> TrafficStatus {
    let mut status = unsteered(port);
    let which = format!("root sees it with `sameport steer {}`", port.name());
    match is_held(port) {
        Some(false) => {}
        Some(true) => {
            status.in_force = Err("a policy holds that this user cannot read".to_owned());
            status.remarks = vec![which];
            status.members.iter_mut().for_each(|member| member.share_wanted = None);
        }
        None => {
            let remark = format!("a policy can hold that this user cannot see: {which}");
            status.remarks.push(remark);
        }
    }
    status
}

/// The members with what can be seen of them from outside of the kernel.
fn status(port: &PortMembers, rules: TrafficRules, facts: &TrafficFacts) -> TrafficStatus {
    let by_inode: BTreeMap<u64, &MemberSocket> =
        port.sockets.iter().map(|socket| (socket.member.socket.inode, socket)).collect();
    let mut facts = facts.clone();
    facts.members.retain(|member| {
        !by_inode.get(&member.socket.inode).is_some_and(|socket| socket.is_spare())
    });
    let plan = decide(&facts, &rules, SteeringTier::Extended);
    let members = plan.as_ref().map_or_else(
        |_| Vec::new(),
        |plan| {
            let shares = wanted_shares(plan);
            plan.members
                .iter()
                .zip(shares)
                .map(|(planned, share)| member(port, &by_inode, planned, share))
                .collect()
        },
    );
    let remarks = match &plan {
        Ok(plan) => remarks(&facts, &rules, plan),
        Err(refusal) => vec![refusal.to_string()],
    };
    let addresses: BTreeSet<_> = port.sockets.iter().map(MemberSocket::address).collect();
    TrafficStatus {
        protocol: port.protocol,
        port: port.port,
        addresses: addresses.into_iter().map(ToString::to_string).collect(),
        rules,
        tier: None,
        in_force: Ok(()),
        members,
        choices: None,
        remarks,
    }
}

fn member(
    port: &PortMembers,
    by_inode: &BTreeMap<u64, &MemberSocket>,
    planned: &PlannedMember,
    share_wanted: Option<f64>,
) -> MemberTraffic {
    let sockets: Vec<&MemberSocket> =
        planned.sockets.iter().filter_map(|id| by_inode.get(&id.inode).copied()).collect();
    let first = sockets.first();
    let pids: BTreeSet<i32> = sockets.iter().flat_map(|it| &it.pids).copied().collect();
    let open = |open: &BTreeMap<i32, u32>| pids.iter().filter_map(|pid| open.get(pid)).sum();
    let drops = |socket: &&MemberSocket| socket.member.socket.drops.map(u64::from);
    MemberTraffic {
        pid: planned.pid,
        program: first.map(|it| it.program().to_owned()).filter(|name| !name.is_empty()),
        run: first.and_then(|it| it.run.as_ref()).map(ToString::to_string),
        worker: first.and_then(|it| it.worker),
        addresses: sockets.iter().map(|it| it.address().to_string()).collect(),
        inodes: planned.sockets.iter().map(|id| id.inode).collect(),
        weight: Some(planned.weight),
        rank: Some(planned.rank),
        canary: planned.canary,
        share_wanted,
        share_seen: None,
        chosen: None,
        open: port.open.as_ref().map(open),
        queue: Some(sockets.iter().map(|it| it.member.socket.queue).sum()),
        backlog: Some(sockets.iter().map(|it| it.member.socket.backlog).sum()),
        drops: sockets.iter().map(drops).sum(),
        state: MemberState::Serving,
    }
}
