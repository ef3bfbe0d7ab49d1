//! The ports whose members an eBPF program chooses: its counts are exact, and read at each look.

use std::time::Duration;

use sameport_policy::top::{TopListener, TopTraffic};
use sameport_policy::traffic::{
    MemberState, MemberTraffic, SteeringTier, TrafficRules, TrafficStatus,
};
use sameport_supervisor::TrafficRecord;
use sameport_sys::bpf::traffic::{MemberCounts, TrafficCounts, TrafficKey, TrafficState};
use sameport_sys::netns::own_cookie;

/// Adds the counts of the kernel to what supervisors said. Ports without a state, and all of them without the
/// right to read the states, are left as they are. `at`: the time of the look.
pub(super) fn add_counts(traffic: &mut Vec<TopTraffic>, listeners: &[TopListener], at: Duration) {
    let Ok(keys) = TrafficState::list() else { return };
    let netns = own_cookie().ok();
    for key in keys.into_iter().filter(|key| Some(key.netns) == netns) {
        let is_of_port = |it: &&TopListener| {
            (it.address.protocol, it.address.port()) == (key.protocol, key.port)
        };
        let on_port: Vec<&TopListener> = listeners.iter().filter(is_of_port).collect();
        if on_port.is_empty() {
            continue;
        }
        // A state that is removed meanwhile, or of another build, says nothing.
        let Ok(Some(state)) = TrafficState::find(key) else { continue };
        let record = state.record().ok().and_then(|record| TrafficRecord::read(&record));
        overlay(traffic, key, record, &state.snapshot(), &on_port, at);
    }
}

fn overlay(
    traffic: &mut Vec<TopTraffic>,
    key: TrafficKey,
    record: Option<TrafficRecord>,
    counts: &TrafficCounts,
    listeners: &[&TopListener],
    at: Duration,
) {
    let is_of_port =
        |it: &TopTraffic| (it.status.protocol, it.status.port) == (key.protocol, key.port);
    let drained = record.as_ref().map(|record| record.drained.clone()).unwrap_or_default();
    let index = match (traffic.iter().position(is_of_port), record) {
        (Some(index), _) => index,
        (None, Some(record)) => {
            traffic.push(TopTraffic { at, status: status(key, record.rules) });
            traffic.len() - 1
        }
        // A record that this build cannot read.
        (None, None) => return,
    };
    traffic[index].at = at;
    let members = &mut traffic[index].status.members;
    for counted in &counts.members {
        let inodes: Vec<u64> = listeners
            .iter()
            .filter(|listener| counted.cookies.contains(&listener.cookie))
            .map(|listener| listener.inode)
            .collect();
        let is_drained = counted.cookies.iter().any(|cookie| drained.contains(cookie));
        let known = members.iter_mut().find(|it| it.inodes.iter().any(|it| inodes.contains(it)));
        match known {
            Some(member) => count(member, counted, is_drained),
            None => {
                let mut member = member(inodes);
                member.state = match counted.admitted {
                    true => MemberState::Serving,
                    false => MemberState::HeldBack,
                };
                count(&mut member, counted, is_drained);
                members.push(member);
            }
        }
    }
}

fn count(member: &mut MemberTraffic, counted: &MemberCounts, is_drained: bool) {
    member.chosen = Some(counted.chosen);
    member.open = Some(counted.open);
    if counted.hung || counted.full {
        member.state = MemberState::Hung;
    } else if is_drained {
        member.state = MemberState::Draining;
    }
}

fn status(key: TrafficKey, rules: TrafficRules) -> TrafficStatus {
    TrafficStatus {
        protocol: key.protocol,
        port: key.port,
        addresses: vec![],
        rules,
        tier: Some(SteeringTier::Extended),
        in_force: Ok(()),
        members: vec![],
        choices: None,
        remarks: vec![],
    }
}

fn member(inodes: Vec<u64>) -> MemberTraffic {
    MemberTraffic {
        pid: None,
        program: None,
        run: None,
        worker: None,
        addresses: vec![],
        inodes,
        weight: None,
        rank: None,
        canary: false,
        share_wanted: None,
        share_seen: None,
        chosen: None,
        open: None,
        queue: None,
        backlog: None,
        drops: None,
        state: MemberState::Serving,
    }
}

#[cfg(test)]
mod tests {
    use sameport_policy::model::{Address, Protocol};
    use sameport_policy::traffic::TrafficPolicy;

    use super::*;

    fn listener(cookie: u64) -> TopListener {
        TopListener {
            address: Address::new(Protocol::Tcp, ([0, 0, 0, 0], 80).into()),
            cookie,
            inode: 100 + cookie,
            queue: 0,
            backlog: 128,
            drops: None,
            steered: Some(true),
            processes: vec![],
            kept_by: None,
            worker: None,
        }
    }

    fn counts(cookie: u64, chosen: u64) -> MemberCounts {
        MemberCounts {
            cookies: vec![cookie],
            number: 0,
            generation: 1,
            open: 3,
            pending: 0,
            chosen,
            established: chosen,
            hung: false,
            full: false,
            admitted: true,
            canary: false,
        }
    }

    #[test]
    fn counts_join_what_a_supervisor_said_or_stand_alone() {
        let key = TrafficKey { netns: 1, protocol: Protocol::Tcp, port: 80 };
        let rules = TrafficRules::new(TrafficPolicy::LeastConnections);
        let (one, two) = (listener(1), listener(2));
        let hung = MemberCounts { hung: true, ..counts(2, 20) };
        let seen = TrafficCounts { members: vec![counts(1, 10), hung], missed: 0 };
        let at = Duration::from_secs(5);
        let mut said = status(key, TrafficRules::new(TrafficPolicy::Weights));
        said.members = vec![MemberTraffic { weight: Some(9), ..member(vec![101]) }];
        let said = TopTraffic { at: Duration::ZERO, status: said };
        for (mut traffic, policy, weight) in [
            (vec![], TrafficPolicy::LeastConnections, None),
            (vec![said], TrafficPolicy::Weights, Some(9)),
        ] {
            let record =
                TrafficRecord { rules: rules.clone(), drained: [1].into(), owners: [].into() };
            overlay(&mut traffic, key, Some(record), &seen, &[&one, &two], at);
            let [TopTraffic { at: answered, status }] = &*traffic else { panic!("{traffic:?}") };
            assert_eq!((*answered, status.rules.policy), (at, policy));
            let found: Vec<_> = status
                .members
                .iter()
                .map(|it| (it.inodes[0], it.chosen, it.open, it.weight, it.state))
                .collect();
            let expected = [
                (101, Some(10), Some(3), weight, MemberState::Draining),
                (102, Some(20), Some(3), None, MemberState::Hung),
            ];
            assert_eq!(found, expected);
        }
        let mut unread = vec![];
        overlay(&mut unread, key, None, &seen, &[&one], at);
        assert_eq!(unread, []);
    }
}
