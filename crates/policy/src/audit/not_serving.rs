//! TCP ports on which nobody is served: who is bound and cannot listen, who is bound and does not, a
//! connection where a listener was to be, a listener whose queue is closed.

use super::fix::{Fix, guard, reserve_or_end};
use super::port_view::{Participant, PortView, oldest, party};
use super::{Finding, FindingKind, Severity};
use crate::model::{Protocol, SocketState};

pub(super) fn findings(scene: &PortView<'_>) -> Vec<Finding> {
    if scene.protocol != Protocol::Tcp {
        return Vec::new();
    }
    let bound =
        scene.participants.iter().filter(|actor| actor.member.socket.state == SocketState::Bound);
    let mut findings: Vec<_> = bound
        .filter_map(|actor| overtaken(scene, actor).or_else(|| in_the_way(scene, actor)))
        .collect();
    findings.extend(scene.waiting().filter_map(|actor| stalled(scene, &actor)));
    findings.extend(connection(scene));
    findings
}

/// `SO_REUSEADDR` lets another user bind as well while nobody listens, and whoever listens first has
/// it. That both came in shows that neither listened then.
fn overtaken(scene: &PortView<'_>, bound: &Participant<'_>) -> Option<Finding> {
    let listener = scene.waiting().find(|listener| {
        listener.has_other_user_than(bound)
            && listener.is_stranger_to(bound)
            && listener.address().overlaps(bound.address())
    })?;
    Some(Finding {
        kind: FindingKind::OvertakenBeforeListen,
        severity: Severity::Danger,
        port: Some((scene.protocol, scene.port)),
        fix: guard(scene, bound, &listener),
        intruder: Some(listener.party()),
        owner: Some(bound.party()),
        bpf_program: None,
    })
}

/// Ports that the kernel gives away are somebody's by chance, and told only to who asks for them.
fn in_the_way(scene: &PortView<'_>, bound: &Participant<'_>) -> Option<Finding> {
    let anybody = scene.waiting().any(|listener| listener.address().overlaps(bound.address()));
    let by_chance = scene.facts.kernel.ephemeral_ports.contains(&scene.port);
    if anybody || (by_chance && scene.facts.port.is_none()) {
        return None;
    }
    Some(Finding {
        kind: FindingKind::BoundNotListening,
        severity: Severity::Warning,
        port: Some((scene.protocol, scene.port)),
        fix: reserve_or_end(scene, oldest(&bound.member.processes)),
        intruder: Some(bound.party()),
        owner: None,
        bpf_program: None,
    })
}

/// A connection is nothing unusual, unless somebody asks why nobody listens there.
fn connection(scene: &PortView<'_>) -> Option<Finding> {
    scene.facts.port?;
    let member = scene.connections.first().filter(|_| scene.participants.is_empty())?;
    let process = oldest(&member.processes);
    Some(Finding {
        kind: FindingKind::TakenByConnection,
        severity: Severity::Warning,
        port: Some((scene.protocol, scene.port)),
        fix: reserve_or_end(scene, process),
        intruder: Some(party(member, process)),
        owner: None,
        bpf_program: None,
    })
}

/// `listen(fd, 0)` by anybody who has the socket open. A gate of `sameport run` is meant to be so.
fn stalled(scene: &PortView<'_>, listener: &Participant<'_>) -> Option<Finding> {
    let socket = &listener.member.socket;
    let processes = &listener.member.processes;
    let in_a_run = processes.iter().any(|process| {
        scene.facts.evidence.get(&process.pid).is_some_and(|trace| !trace.runs.is_empty())
    });
    if socket.backlog > 0 || socket.queue == 0 || in_a_run {
        return None;
    }
    let process = oldest(processes);
    Some(Finding {
        kind: FindingKind::QueueClosed,
        severity: Severity::Warning,
        port: Some((scene.protocol, scene.port)),
        fix: process.map_or(Fix::AuditAsRoot, Fix::restart),
        intruder: None,
        owner: Some(listener.party()),
        bpf_program: None,
    })
}

#[cfg(test)]
mod tests {
    use crate::audit::fixtures::{PortFixture, api, stranger, tcp};
    use crate::model::SocketState;

    #[test]
    fn bound_and_another_user_listens() {
        let danger = [("overtaken-before-listen", "danger", 2, 200, 1)];
        for at in ["0.0.0.0:80", "127.0.0.1:80"] {
            PortFixture::default()
                .in_state(SocketState::Bound, tcp("0.0.0.0:80"), &[&api()])
                .of(1001, tcp(at), &[&stranger()])
                .finds(&danger);
        }
        let unseen = [("overtaken-before-listen", "danger", 2, 0, 1)];
        PortFixture::default()
            .in_state(SocketState::Bound, tcp("0.0.0.0:80"), &[])
            .of(1001, tcp("0.0.0.0:80"), &[])
            .finds(&unseen);
        // A socket beside the listener's own, as of who is about to be replaced.
        PortFixture::default()
            .in_state(SocketState::Bound, tcp("0.0.0.0:80"), &[&api()])
            .with(tcp("0.0.0.0:80"), &[&api()])
            .finds(&[]);
    }

    #[test]
    fn bound_and_nobody_listens() {
        let alone = |at: &str| {
            let stage =
                PortFixture::default().in_state(SocketState::Bound, tcp(at), &[&stranger()]);
            stage.with(tcp("127.0.0.1:9"), &[&api()])
        };
        let found = [("bound-not-listening", "warning", 1, 200, 0)];
        alone("0.0.0.0:80").finds(&found);
        // The kernel may have given it.
        alone("0.0.0.0:40000").finds(&[]);
        alone("0.0.0.0:40000").asked(40000).finds(&found);
        alone("127.0.0.1:80").with(tcp("127.0.0.2:80"), &[&api()]).finds(&found);
    }

    #[test]
    fn a_connection_where_somebody_wanted_to_listen() {
        let connected = |at: &str| {
            PortFixture::default().in_state(SocketState::Connected, tcp(at), &[&stranger()])
        };
        connected("127.0.0.1:8443").finds(&[]);
        let found = [("taken-by-connection", "warning", 1, 200, 0)];
        connected("127.0.0.1:8443").asked(8443).finds(&found);
        // One that was accepted.
        connected("127.0.0.1:80").with(tcp("0.0.0.0:80"), &[&api()]).asked(80).finds(&[]);
    }

    #[test]
    fn a_queue_that_takes_nobody() {
        let stage = |backlog, queue| {
            PortFixture::default().with_but(tcp("0.0.0.0:80"), &[&api()], |member| {
                (member.socket.backlog, member.socket.queue) = (backlog, queue);
            })
        };
        stage(0, 1).finds(&[("queue-closed", "warning", 0, 0, 1)]);
        stage(0, 0).finds(&[]);
        // Busy.
        stage(1, 2).finds(&[]);
    }
}
