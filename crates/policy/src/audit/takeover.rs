//! An address that changes hands: the old listener goes, and a stranger comes.

use std::collections::{BTreeMap, BTreeSet};

use super::port_view::PortView;
use super::{AuditFacts, Finding, FindingKind, ProgramEvidence};
use crate::model::{Address, Member, SocketState};

/// How many addresses are remembered whose listener has gone.
const MOST: usize = 1024;

/// Who was where, look by look.
#[derive(Debug, Clone, Default)]
pub struct TakeoverTracker {
    /// Whoever waits, by address.
    listeners: BTreeMap<Address, TrackedListener>,
    /// Whoever was the last there.
    gone: BTreeMap<Address, TrackedListener>,
}

/// One socket of an address stands for all.
#[derive(Debug, Clone)]
struct TrackedListener {
    member: Member,
    evidence: ProgramEvidence,
    cookies: BTreeSet<u64>,
}

impl TakeoverTracker {
    /// What has changed hands since the last step. A program that comes back is no stranger, and an
    /// address of a port that the kernel gives away is anybody's.
    pub fn update(&mut self, facts: &AuditFacts) -> Vec<Finding> {
        let now = waiting(facts);
        let mut before = std::mem::take(&mut self.listeners);
        before.retain(|address, waiting| {
            let stays =
                now.get(address).is_some_and(|now| !now.cookies.is_disjoint(&waiting.cookies));
            if !stays && self.gone.len() < MOST {
                self.gone.insert(address.clone(), waiting.clone());
            }
            stays
        });
        let came = now.iter().filter(|(address, _)| !before.contains_key(*address));
        let findings = came
            .filter_map(|(address, now)| changed_hands(&self.gone.remove(address)?, now, facts))
            .collect();
        self.listeners = now;
        findings
    }
}

fn waiting(facts: &AuditFacts) -> BTreeMap<Address, TrackedListener> {
    let mut now: BTreeMap<Address, TrackedListener> = BTreeMap::new();
    for member in &facts.members {
        let address = &member.socket.address;
        let by_chance = facts.kernel.ephemeral_ports.contains(&address.port());
        if member.socket.state != SocketState::Waiting || (by_chance && facts.port.is_none()) {
            continue;
        }
        let pid = member.processes.first().map(|process| process.pid);
        let trace = || pid.and_then(|pid| facts.evidence.get(&pid)).cloned().unwrap_or_default();
        let first = || TrackedListener {
            member: member.clone(),
            evidence: trace(),
            cookies: BTreeSet::new(),
        };
        let waiting = now.entry(address.clone()).or_insert_with(first);
        waiting.cookies.insert(member.socket.cookie);
    }
    now
}

fn changed_hands(
    before: &TrackedListener,
    now: &TrackedListener,
    facts: &AuditFacts,
) -> Option<Finding> {
    let mut both = AuditFacts { kernel: facts.kernel.clone(), ..AuditFacts::default() };
    for TrackedListener { member, evidence: trace, .. } in [before, now] {
        let traces = member.processes.iter().map(|process| (process.pid, trace.clone()));
        both.evidence.extend(traces);
        both.members.push(member.clone());
    }
    let scenes = PortView::of(&both);
    let scene = scenes.first()?;
    let of = |cookie| scene.participants.iter().find(|actor| actor.member.socket.cookie == cookie);
    let (owner, other) = (of(before.member.socket.cookie)?, of(now.member.socket.cookie)?);
    let severity = owner.severity(other);
    other
        .is_stranger_to(owner)
        .then(|| scene.finding(FindingKind::TakenInTheGap, severity, owner, other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Severity;
    use crate::audit::fixtures::{PortFixture, actor, api, stranger, tcp};

    #[test]
    fn a_gap_that_a_stranger_fills() {
        let at = || tcp("0.0.0.0:8443");
        let owner = PortFixture::default().with(at(), &[&api()]).facts;
        let nobody = AuditFacts::default();
        let again = actor(400, "/usr/bin/api", &[]).in_cgroup("/system.slice/api.service");
        let stage = PortFixture::default().with(tcp("0.0.0.0:1"), &[&api()]);
        let again = stage.clone().with(at(), &[&again]).facts;
        let other = stage.clone().with(at(), &[&stranger()]).facts;
        let another_user = stage.of(1001, at(), &[&stranger()]).facts;
        let cases = [
            (vec![&owner, &nobody, &other], vec![Severity::Warning]),
            (vec![&owner, &other], vec![Severity::Warning]),
            (vec![&owner, &nobody, &nobody, &another_user], vec![Severity::Danger]),
            (vec![&owner, &nobody, &again], vec![]),
            (vec![&nobody, &other], vec![]),
            (vec![&owner, &owner], vec![]),
            (vec![&owner, &nobody, &other, &other], vec![Severity::Warning]),
        ];
        for (steps, expected) in cases {
            let mut succession = TakeoverTracker::default();
            let found: Vec<_> = steps.iter().flat_map(|facts| succession.update(facts)).collect();
            let severities: Vec<_> = found.iter().map(|finding| finding.severity).collect();
            assert_eq!(severities, expected);
            assert!(found.iter().all(|finding| finding.kind == FindingKind::TakenInTheGap));
        }
    }
}
