//! One socket that two programs have open. Each of them can accept from its queue.

use super::facts::AuditFacts;
use super::finding::{Finding, FindingKind, Severity};
use super::fix;
use super::identity::{EvidenceSource, are_one_program};
use super::port_view::{PortView, party_of};
use super::precedence::process_precedence;
use crate::model::{Member, Process};

/// One finding for each process of another program, for all of its sockets.
pub(super) fn findings(view: &PortView<'_>) -> Vec<Finding> {
    let mut reported = Vec::new();
    let mut findings = Vec::new();
    for member in &view.members {
        for (owner, stranger) in strangers(member, view.facts) {
            if !reported.contains(&stranger.pid) {
                reported.push(stranger.pid);
                findings.push(finding(view, member, owner, stranger));
            }
        }
    }
    findings
}

/// The owner of the socket, paired with the first process of each other program that has it open.
fn strangers<'a>(member: &'a Member, facts: &AuditFacts) -> Vec<(&'a Process, &'a Process)> {
    if member.processes.len() < 2 {
        return Vec::new();
    }
    let mut processes: Vec<_> = member.processes.iter().collect();
    processes.sort_by_key(|process| process_precedence(process));
    let mut programs: Vec<Vec<&Process>> = Vec::new();
    for process in processes {
        let matches = |program: &Vec<&Process>| {
            program
                .iter()
                .any(|other| are_one_program(process, other, EvidenceSource::OneUser, facts))
        };
        // A process that matches several programs makes them one.
        let (matching, others): (Vec<_>, Vec<_>) = programs.into_iter().partition(matches);
        programs = others;
        let mut merged: Vec<&Process> = matching.into_iter().flatten().collect();
        merged.push(process);
        merged.sort_by_key(|process| process_precedence(process));
        programs.push(merged);
    }
    programs.sort_by_key(|program| process_precedence(program[0]));
    let owner = programs[0][0];
    programs[1..].iter().map(|program| (owner, program[0])).collect()
}

fn finding(view: &PortView<'_>, member: &Member, owner: &Process, stranger: &Process) -> Finding {
    let user = |process: &Process| process.details.as_ref().and_then(|details| details.uid);
    let severity = match user(owner) == user(stranger) {
        true => Severity::Warning,
        false => Severity::Danger,
    };
    let restrict_ptrace = view.facts.kernel.ptrace_scope == Some(0);
    let fix = fix::end_process(view, member, stranger, restrict_ptrace);
    Finding {
        intruder: Some(party_of(member, Some(stranger))),
        owner: Some(party_of(member, Some(owner))),
        ..view.port_finding(FindingKind::HeldByStranger, severity, fix)
    }
}

#[cfg(test)]
mod tests {
    use crate::audit::fixtures::{PortFixture, ProcessFixture, api, process, stranger, tcp};

    const AT: &str = "0.0.0.0:80";

    #[test]
    fn a_socket_of_two_programs() {
        let held = ("held-by-stranger", "warning", 1, 200, 1);
        PortFixture::default().with(tcp(AT), &[&stranger(), &api()]).finds(&[held]);
        // More sockets and copies of the process are no more findings.
        let copy = process(201, "/usr/bin/python3.11", &["/home/user/x.py"]);
        PortFixture::default()
            .with(tcp(AT), &[&api(), &stranger(), &copy])
            .with(tcp(AT), &[&api(), &stranger(), &copy])
            .finds(&[held]);
        let other_user = stranger().of_user(1001);
        let danger = ("held-by-stranger", "danger", 1, 200, 1);
        PortFixture::default().with(tcp(AT), &[&api(), &other_user]).finds(&[danger]);
    }

    #[test]
    fn inherited_sockets_are_no_finding() {
        let master = process(300, "/usr/bin/master", &[]);
        let worker = |pid| process(pid, "/usr/bin/worker", &[]).below(&[300, 1]);
        let helper = process(303, "/usr/bin/helper", &[]).below(&[302, 300, 1]);
        let all: [&ProcessFixture; 4] = [&worker(301), &helper, &worker(302), &master];
        PortFixture::default().with(tcp(AT), &all).finds(&[]);
        // Different workers, and the master has closed the socket.
        let left = [&worker(301), &process(304, "/usr/bin/other", &[]).below(&[300, 1])];
        let held = ("held-by-stranger", "warning", 1, 304, 1);
        PortFixture::default().with(tcp(AT), &left).finds(&[held]);
    }

    #[test]
    fn process_1_may_hold_sockets_of_services_only() {
        let init = process(1, "/usr/lib/systemd/systemd", &[]).below(&[]);
        let mut port = PortFixture::default().with(tcp(AT), &[&init, &api()]);
        port.facts.kernel.init_passes_sockets = true;
        port.finds(&[]);
        let mut port = PortFixture::default().with(tcp(AT), &[&init, &api(), &stranger()]);
        port.facts.kernel.init_passes_sockets = true;
        port.finds(&[("held-by-stranger", "warning", 1, 200, 1)]);
        // Process 1 of a container may be any program.
        PortFixture::default().with(tcp(AT), &[&init, &stranger()]).finds(&[]);
    }
}
