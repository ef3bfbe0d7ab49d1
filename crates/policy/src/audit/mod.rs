//! Finds programs that take traffic from each other: facts in, findings out.
//!
//! `identity` decides which processes are one program; `port_view` assigns the members of a port to
//! programs; each other file finds one family of findings. `docs/audit.md` explains every finding.

mod facts;
mod fd_holders;
mod finding;
mod fix;
#[cfg(test)]
mod fixtures;
mod identity;
mod more_specific;
mod not_serving;
mod other_family;
mod port_view;
mod precedence;
mod programs;
mod redirection;
mod service;
mod shared_address;
mod shared_by_design;
mod takeover;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::holder::classify;
use crate::model::SocketState;
use port_view::PortView;

pub use facts::{AuditFacts, KernelSettings, ProgramEvidence, Redirection};
pub use finding::{Finding, FindingKind, Fix, Party, Severity};
pub use service::{ServiceOrContainer, service_or_container};
pub use takeover::TakeoverTracker;

/// All findings, ordered by port, severity and kind.
#[must_use]
pub fn audit(facts: &AuditFacts) -> Vec<Finding> {
    let mut findings = redirection::findings(facts);
    for view in PortView::by_port(facts) {
        findings.extend(shared_address::findings(&view));
        findings.extend(more_specific::findings(&view));
        findings.extend(other_family::findings(&view));
        findings.extend(not_serving::findings(&view));
        findings.extend(fd_holders::findings(&view));
    }
    findings.sort_by_key(|finding| (finding.port, Reverse(finding.severity), finding.kind));
    findings
}

/// Waiting and bound sockets, by cookie.
#[must_use]
pub fn parties(facts: &AuditFacts) -> BTreeMap<u64, Party> {
    let members =
        facts.members.iter().filter(|member| member.socket.state != SocketState::Connected);
    members
        .map(|member| {
            let holder = classify(member, &[], &facts.holders);
            (member.socket.cookie, port_view::party(member, &holder))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_facts_give_no_findings() {
        assert_eq!(audit(&AuditFacts::default()), []);
    }
}
