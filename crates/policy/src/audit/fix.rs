//! Chooses the fix of a finding.

use super::finding::{Fix, GuardAllow};
use super::port_view::{Participant, PortView};
use super::precedence::{oldest, socket_user};
use super::service::service_of;
use crate::interpreter::runs_arguments;
use crate::model::Process;

/// Restarts the service, or ends a process that no service manager would restart.
pub(super) fn restart(process: &Process) -> Fix {
    match service_of(process).unit {
        Some(unit) => Fix::Restart { unit },
        None => kill(process),
    }
}

fn kill(process: &Process) -> Fix {
    Fix::Kill { pid: process.pid, restrict_ptrace: false }
}

/// A guard that allows the owner and refuses the other, by the most specific property that differs:
/// unit, file, user or cgroup.
pub(super) fn guard(view: &PortView<'_>, owner: &Participant<'_>, other: &Participant<'_>) -> Fix {
    let port = view.port;
    let allow = |allow| Fix::Guard { port, allow };
    let process = oldest(&owner.member.processes);
    if let Some(unit) = process.and_then(|process| service_of(process).unit) {
        return allow(GuardAllow::Unit(unit));
    }
    let details = process.and_then(|process| process.details.as_ref());
    let other_details =
        oldest(&other.member.processes).and_then(|process| process.details.as_ref());
    let executable = details.and_then(|details| details.executable.as_ref());
    let is_same_file = other_details.is_some_and(|it| it.executable.as_ref() == executable);
    match executable {
        Some(path) if !is_same_file && !runs_arguments(path) => {
            return allow(GuardAllow::Executable(path.clone()));
        }
        _ => {}
    }
    if owner.has_other_user_than(other) {
        return allow(GuardAllow::User(socket_user(owner.member)));
    }
    let cgroup = details.and_then(|details| details.cgroup.as_ref());
    let differs = other_details.is_some_and(|it| it.cgroup.as_ref() != cgroup);
    match cgroup {
        Some(path) if differs && path != "/" => allow(GuardAllow::Cgroup(path.clone())),
        _ => Fix::Private {
            command: details.map(|details| details.command.clone()).unwrap_or_default(),
            uid: details.and_then(|details| details.uid),
        },
    }
}

/// Reserves a port that the kernel assigned; ends a process that chose the port itself.
pub(super) fn reserve_or_kill(view: &PortView<'_>, process: Option<&Process>) -> Fix {
    let kernel = &view.facts.kernel;
    if kernel.ephemeral_ports.contains(&view.port) {
        let already_reserved = kernel.reserved_ports.clone();
        return Fix::Reserve { port: view.port, already_reserved };
    }
    process.map_or(Fix::AuditAsRoot, kill)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::audit;
    use crate::audit::fixtures::{PortFixture, ProcessFixture, api, process, stranger, tcp};

    fn fix(owner: &ProcessFixture, other: &ProcessFixture, uid: u32) -> Fix {
        let at = tcp("0.0.0.0:80");
        let port = PortFixture::default().with(at.clone(), &[owner]).of(uid, at, &[other]);
        audit(&port.facts).remove(0).fix
    }

    #[test]
    fn a_guard_uses_the_property_that_differs() {
        let allow = |allow| Fix::Guard { port: 80, allow };
        let native = process(100, "/usr/bin/server", &[]);
        let script = process(100, "/usr/bin/python3.11", &["/srv/api.py"]);
        let in_scope = script.clone().in_cgroup("/user.slice/api.scope");
        let command = vec!["/usr/bin/python3.11".to_owned(), "/srv/api.py".to_owned()];
        let cases = [
            (&api(), 1000, allow(GuardAllow::Unit("api.service".into()))),
            (&native, 1000, allow(GuardAllow::Executable("/usr/bin/server".into()))),
            (&script, 1001, allow(GuardAllow::User(1000))),
            (&in_scope, 1000, allow(GuardAllow::Cgroup("/user.slice/api.scope".into()))),
            (&script, 1000, Fix::Private { command, uid: Some(1000) }),
        ];
        for (owner, uid, expected) in cases {
            assert_eq!(fix(owner, &stranger(), uid), expected);
        }
    }
}
