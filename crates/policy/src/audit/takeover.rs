//! Detects an address that changes hands: its listener closes, and another program listens.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{AuditFacts, ProgramEvidence};
use super::finding::{Finding, FindingKind};
use super::fix;
use super::port_view::PortView;
use crate::model::{Address, Member, SocketState};

/// The limit of remembered addresses without a listener.
const MAX_CLOSED: usize = 1024;

/// The listeners of each address, updated with each snapshot.
#[derive(Debug, Clone, Default)]
pub struct TakeoverTracker {
    /// The current listener of each address.
    listeners: BTreeMap<Address, TrackedListener>,
    /// The last listener of each address that has none.
    closed: BTreeMap<Address, TrackedListener>,
}

/// The first member of an address, and the cookies of all members.
#[derive(Debug, Clone)]
struct TrackedListener {
    member: Member,
    evidence: ProgramEvidence,
    cookies: BTreeSet<u64>,
}

impl TakeoverTracker {
    /// Takes the next snapshot and returns the addresses that changed hands since the previous one.
    ///
    /// A program that returns to its address is not reported, and neither are ports that the kernel
    /// assigns.
    pub fn update(&mut self, facts: &AuditFacts) -> Vec<Finding> {
        let current = listeners(facts);
        let mut previous = std::mem::take(&mut self.listeners);
        previous.retain(|address, listener| {
            let stays = current
                .get(address)
                .is_some_and(|current| !current.cookies.is_disjoint(&listener.cookies));
            if !stays && self.closed.len() < MAX_CLOSED {
                self.closed.insert(address.clone(), listener.clone());
            }
            stays
        });
        let opened = current.iter().filter(|(address, _)| !previous.contains_key(*address));
        let findings = opened
            .filter_map(|(address, listener)| {
                takeover(&self.closed.remove(address)?, listener, facts)
            })
            .collect();
        self.listeners = current;
        findings
    }
}

fn listeners(facts: &AuditFacts) -> BTreeMap<Address, TrackedListener> {
    let mut listeners: BTreeMap<Address, TrackedListener> = BTreeMap::new();
    for member in &facts.members {
        let address = &member.socket.address;
        let is_ephemeral = facts.kernel.ephemeral_ports.contains(&address.port());
        if member.socket.state != SocketState::Waiting || (is_ephemeral && facts.port.is_none()) {
            continue;
        }
        let first = || {
            let process = member.processes.first();
            let evidence = process.and_then(|process| facts.evidence.get(&process.pid));
            TrackedListener {
                member: member.clone(),
                evidence: evidence.cloned().unwrap_or_default(),
                cookies: BTreeSet::new(),
            }
        };
        let listener = listeners.entry(address.clone()).or_insert_with(first);
        listener.cookies.insert(member.socket.cookie);
    }
    listeners
}

/// A finding if the two listeners are different programs.
fn takeover(
    previous: &TrackedListener,
    current: &TrackedListener,
    facts: &AuditFacts,
) -> Option<Finding> {
    let mut both = AuditFacts { kernel: facts.kernel.clone(), ..AuditFacts::default() };
    for TrackedListener { member, evidence, .. } in [previous, current] {
        let pids = member.processes.iter().map(|process| process.pid);
        both.evidence.extend(pids.map(|pid| (pid, evidence.clone())));
        both.members.push(member.clone());
    }
    let views = PortView::by_port(&both);
    let view = views.first()?;
    let participant = |listener: &TrackedListener| {
        let cookie = listener.member.socket.cookie;
        view.participants.iter().find(|it| it.member.socket.cookie == cookie)
    };
    let (owner, intruder) = (participant(previous)?, participant(current)?);
    intruder.is_stranger_to(owner).then(|| {
        let fix = fix::guard(view, owner, intruder);
        view.finding(FindingKind::TakenInTheGap, owner.severity(intruder), owner, intruder, fix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Severity;
    use crate::audit::fixtures::{PortFixture, api, process, stranger, tcp};

    #[test]
    fn another_program_takes_a_free_address() {
        let at = || tcp("0.0.0.0:8443");
        let owner = PortFixture::default().with(at(), &[&api()]).facts;
        let empty = AuditFacts::default();
        let restarted = process(400, "/usr/bin/api", &[]).in_cgroup("/system.slice/api.service");
        let port = PortFixture::default().with(tcp("0.0.0.0:1"), &[&api()]);
        let again = port.clone().with(at(), &[&restarted]).facts;
        let other = port.clone().with(at(), &[&stranger()]).facts;
        let another_user = port.of(1001, at(), &[&stranger()]).facts;
        let cases = [
            (vec![&owner, &empty, &other], vec![Severity::Warning]),
            (vec![&owner, &other], vec![Severity::Warning]),
            (vec![&owner, &empty, &empty, &another_user], vec![Severity::Danger]),
            (vec![&owner, &empty, &again], vec![]),
            (vec![&empty, &other], vec![]),
            (vec![&owner, &owner], vec![]),
            (vec![&owner, &empty, &other, &other], vec![Severity::Warning]),
        ];
        for (steps, expected) in cases {
            let mut tracker = TakeoverTracker::default();
            let found: Vec<_> = steps.iter().flat_map(|facts| tracker.update(facts)).collect();
            let severities: Vec<_> = found.iter().map(|finding| finding.severity).collect();
            assert_eq!(severities, expected);
            assert!(found.iter().all(|finding| finding.kind == FindingKind::TakenInTheGap));
        }
    }
}
