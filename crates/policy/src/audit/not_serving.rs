//! TCP ports without service: a bound socket that cannot or does not listen, a connection in place
//! of a listener, a listener whose queue is closed.

use super::finding::{Finding, FindingKind, Severity};
use super::fix;
use super::port_view::{Participant, PortView};
use crate::model::{Protocol, SocketState};

pub(super) fn findings(view: &PortView<'_>) -> Vec<Finding> {
    if view.protocol != Protocol::Tcp {
        return Vec::new();
    }
    let is_bound = |it: &&Participant<'_>| it.member.socket.state == SocketState::Bound;
    let bound = view.participants.iter().filter(is_bound);
    let mut findings: Vec<_> =
        bound.filter_map(|it| overtaken(view, it).or_else(|| not_listening(view, it))).collect();
    findings.extend(view.waiting().filter_map(|listener| queue_closed(view, &listener)));
    findings.extend(connection(view));
    findings
}

/// While no socket listens, `SO_REUSEADDR` lets another user bind as well, and the first `listen`
/// wins. Both could bind, so neither listened at that time.
fn overtaken(view: &PortView<'_>, bound: &Participant<'_>) -> Option<Finding> {
    let listener = view.waiting().find(|listener| {
        listener.has_other_user_than(bound)
            && listener.is_stranger_to(bound)
            && listener.address().overlaps(bound.address())
    })?;
    let fix = fix::guard(view, bound, &listener);
    let kind = FindingKind::OvertakenBeforeListen;
    Some(view.finding(kind, Severity::Danger, bound, &listener, fix))
}

/// A bound socket on a port that the kernel assigns is normal, and reported only if the port was
/// named.
fn not_listening(view: &PortView<'_>, bound: &Participant<'_>) -> Option<Finding> {
    let is_served = view.waiting().any(|listener| listener.address().overlaps(bound.address()));
    let is_ephemeral = view.facts.kernel.ephemeral_ports.contains(&view.port);
    if is_served || (is_ephemeral && view.facts.port.is_none()) {
        return None;
    }
    let fix = fix::reserve_or_end(view, bound.member);
    Some(Finding {
        intruder: Some(view.party(bound.member)),
        ..view.port_finding(FindingKind::BoundNotListening, Severity::Warning, fix)
    })
}

/// A connection is normal, and reported only if the port was named.
fn connection(view: &PortView<'_>) -> Option<Finding> {
    view.facts.port?;
    let member = view.connections.first().filter(|_| view.participants.is_empty())?;
    let fix = fix::reserve_or_end(view, member);
    Some(Finding {
        intruder: Some(view.party(member)),
        ..view.port_finding(FindingKind::TakenByConnection, Severity::Warning, fix)
    })
}

/// Any program that has the socket open can call `listen(fd, 0)`. `sameport run` does it on purpose
/// for its gates.
fn queue_closed(view: &PortView<'_>, listener: &Participant<'_>) -> Option<Finding> {
    let socket = &listener.member.socket;
    let processes = &listener.member.processes;
    let evidence = |pid| view.facts.evidence.get(pid);
    let in_a_run = processes
        .iter()
        .any(|process| evidence(&process.pid).is_some_and(|evidence| !evidence.runs.is_empty()));
    if socket.backlog > 0 || socket.queue == 0 || in_a_run {
        return None;
    }
    let fix = fix::restart(view, listener.member);
    Some(Finding {
        owner: Some(view.party(listener.member)),
        ..view.port_finding(FindingKind::QueueClosed, Severity::Warning, fix)
    })
}

#[cfg(test)]
mod tests {
    use crate::audit::fixtures::{PortFixture, api, stranger, tcp};
    use crate::model::SocketState;

    #[test]
    fn another_user_listens_on_a_bound_address() {
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
        // The same program has a bound and a listening socket, as during a replacement.
        PortFixture::default()
            .in_state(SocketState::Bound, tcp("0.0.0.0:80"), &[&api()])
            .with(tcp("0.0.0.0:80"), &[&api()])
            .finds(&[]);
    }

    #[test]
    fn a_bound_port_without_a_listener() {
        let alone = |at: &str| {
            let port = PortFixture::default().in_state(SocketState::Bound, tcp(at), &[&stranger()]);
            port.with(tcp("127.0.0.1:9"), &[&api()])
        };
        let found = [("bound-not-listening", "warning", 1, 200, 0)];
        alone("0.0.0.0:80").finds(&found);
        // The kernel may have assigned the port.
        alone("0.0.0.0:40000").finds(&[]);
        alone("0.0.0.0:40000").port(40000).finds(&found);
        alone("127.0.0.1:80").with(tcp("127.0.0.2:80"), &[&api()]).finds(&found);
    }

    #[test]
    fn a_connection_on_the_named_port() {
        let connected = |at: &str| {
            PortFixture::default().in_state(SocketState::Connected, tcp(at), &[&stranger()])
        };
        connected("127.0.0.1:8443").finds(&[]);
        let found = [("taken-by-connection", "warning", 1, 200, 0)];
        connected("127.0.0.1:8443").port(8443).finds(&found);
        // An accepted connection.
        connected("127.0.0.1:80").with(tcp("0.0.0.0:80"), &[&api()]).port(80).finds(&[]);
    }

    #[test]
    fn a_listener_with_a_closed_queue() {
        let port = |backlog, queue| {
            PortFixture::default().with_changed(tcp("0.0.0.0:80"), &[&api()], |member| {
                (member.socket.backlog, member.socket.queue) = (backlog, queue);
            })
        };
        port(0, 1).finds(&[("queue-closed", "warning", 0, 0, 1)]);
        port(0, 0).finds(&[]);
        // A full queue.
        port(1, 2).finds(&[]);
    }
}
