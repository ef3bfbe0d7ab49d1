//! One socket that two programs have open: whoever has it accepts from its queue.

use super::fix::Fix;
use super::identity::{EvidenceSource, are_one_program};
use super::port_view::{PortView, party, seniority};
use super::{AuditFacts, Finding, FindingKind, Severity};
use crate::model::{Member, Process};

pub(super) fn findings(scene: &PortView<'_>) -> Vec<Finding> {
    let mut told = Vec::new();
    let mut findings = Vec::new();
    for member in &scene.members {
        for (owner, stranger) in strangers(member, scene.facts) {
            // A program that has all of the owner's sockets is told of once.
            if !told.contains(&stranger.pid) {
                told.push(stranger.pid);
                findings.push(of_stranger(scene, member, owner, stranger));
            }
        }
    }
    findings
}

/// The first process that has the socket, and one of each program that is not it.
fn strangers<'a>(member: &'a Member, facts: &AuditFacts) -> Vec<(&'a Process, &'a Process)> {
    if member.processes.len() < 2 {
        return Vec::new();
    }
    let mut processes: Vec<_> = member.processes.iter().collect();
    processes.sort_by_key(|process| seniority(process));
    let mut programs: Vec<Vec<&Process>> = Vec::new();
    for process in processes {
        let is_of = |program: &Vec<&Process>| {
            program
                .iter()
                .any(|other| are_one_program(process, other, EvidenceSource::OneUser, facts))
        };
        // Where it is of several, these are one.
        let (mut its, others): (Vec<_>, Vec<_>) = programs.into_iter().partition(is_of);
        programs = others;
        let mut together: Vec<&Process> = its.drain(..).flatten().collect();
        together.push(process);
        together.sort_by_key(|process| seniority(process));
        programs.push(together);
    }
    programs.sort_by_key(|program| seniority(program[0]));
    let owner = programs[0][0];
    programs[1..].iter().map(|program| (owner, program[0])).collect()
}

fn of_stranger(
    scene: &PortView<'_>,
    member: &Member,
    owner: &Process,
    stranger: &Process,
) -> Finding {
    let user = |process: &Process| process.details.as_ref().and_then(|details| details.uid);
    Finding {
        kind: FindingKind::HeldByStranger,
        severity: match user(owner) == user(stranger) {
            true => Severity::Warning,
            false => Severity::Danger,
        },
        port: Some((scene.protocol, scene.port)),
        intruder: Some(party(member, Some(stranger))),
        owner: Some(party(member, Some(owner))),
        bpf_program: None,
        fix: Fix::Kill {
            pid: stranger.pid,
            restrict_ptrace: scene.facts.kernel.ptrace_scope == Some(0),
        },
    }
}

#[cfg(test)]
mod tests {
    use crate::audit::fixtures::{PortFixture, ProcessFixture, actor, api, stranger, tcp};

    const AT: &str = "0.0.0.0:80";

    #[test]
    fn a_socket_of_two_programs() {
        let held = ("held-by-stranger", "warning", 1, 200, 1);
        PortFixture::default().with(tcp(AT), &[&stranger(), &api()]).finds(&[held]);
        // Of however many sockets, and copies of it.
        let copy = actor(201, "/usr/bin/python3.11", &["/home/ann/x.py"]);
        PortFixture::default()
            .with(tcp(AT), &[&api(), &stranger(), &copy])
            .with(tcp(AT), &[&api(), &stranger(), &copy])
            .finds(&[held]);
        let bob = stranger().of_user(1001);
        let danger = ("held-by-stranger", "danger", 1, 200, 1);
        PortFixture::default().with(tcp(AT), &[&api(), &bob]).finds(&[danger]);
    }

    #[test]
    fn whoever_was_given_it_at_birth() {
        let master = actor(300, "/usr/bin/master", &[]);
        let worker = |pid| actor(pid, "/usr/bin/worker", &[]).below(&[300, 1]);
        let helper = actor(303, "/usr/bin/helper", &[]).below(&[302, 300, 1]);
        let all: [&ProcessFixture; 4] = [&worker(301), &helper, &worker(302), &master];
        PortFixture::default().with(tcp(AT), &all).finds(&[]);
        // Two kinds of workers of a master that has closed it.
        let left = [&worker(301), &actor(304, "/usr/bin/other", &[]).below(&[300, 1])];
        let held = ("held-by-stranger", "warning", 1, 304, 1);
        PortFixture::default().with(tcp(AT), &left).finds(&[held]);
    }

    #[test]
    fn the_service_manager_has_the_sockets_of_its_services_only() {
        let init = actor(1, "/usr/lib/systemd/systemd", &[]).below(&[]);
        let mut stage = PortFixture::default().with(tcp(AT), &[&init, &api()]);
        stage.facts.kernel.init_passes_sockets = true;
        stage.finds(&[]);
        let mut stage = PortFixture::default().with(tcp(AT), &[&init, &api(), &stranger()]);
        stage.facts.kernel.init_passes_sockets = true;
        stage.finds(&[("held-by-stranger", "warning", 1, 200, 1)]);
        // The first process of a container is a program like any other.
        PortFixture::default().with(tcp(AT), &[&init, &stranger()]).finds(&[]);
    }
}
