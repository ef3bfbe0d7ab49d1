//! What ends a finding, or keeps it from happening again: always one command.

use std::path::PathBuf;

use super::identity::{runs_arguments, service_of};
use super::port_view::{Participant, PortView, oldest, socket_user};
use crate::model::Process;

/// What to do. How it is written is the teller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fix {
    /// `sameport guard PORT --allow …`: nobody else may bind the port from then on.
    Guard {
        /// Which.
        port: u16,
        /// Who may.
        allow: GuardAllow,
    },
    /// `sameport run --private -- COMMAND`: nothing tells the two apart, so that only a group which
    /// admits its members keeps others out.
    Private {
        /// The command of the one who was there first; empty if it is not known.
        command: Vec<String>,
        /// Whose process that is: what another user has written into a command is not for root to
        /// execute.
        uid: Option<u32>,
    },
    /// `kill PID`.
    Kill {
        /// Whom.
        pid: i32,
        /// Set `kernel.yama.ptrace_scope` as well, so that no program takes what another has open.
        restrict_ptrace: bool,
    },
    /// The kernel is to give the port to nobody by chance (`net.ipv4.ip_local_reserved_ports`).
    Reserve {
        /// Which.
        port: u16,
        /// What is excepted already, as it is written there.
        already_reserved: String,
    },
    /// The service is to be started again.
    Restart {
        /// Its unit.
        unit: String,
    },
    /// `bpftool prog show id N` tells whose it is.
    ShowBpfProgram(u32),
    /// Only root sees who it is.
    AuditAsRoot,
}

/// Who may bind, as `sameport guard --allow` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardAllow {
    /// `unit=`.
    Unit(String),
    /// `exe=`.
    Executable(PathBuf),
    /// `cgroup=`.
    Cgroup(String),
    /// `uid=`.
    User(u32),
}

impl Fix {
    /// Starts it again, or ends it, that it be started again.
    pub(super) fn restart(process: &Process) -> Self {
        match service_of(process).unit {
            Some(unit) => Self::Restart { unit },
            None => Self::Kill { pid: process.pid, restrict_ptrace: false },
        }
    }
}

/// A guard that lets the owner in, and not the other, by the best that tells them apart: the unit, the
/// file, the user, the cgroup.
pub(super) fn guard(scene: &PortView<'_>, owner: &Participant<'_>, other: &Participant<'_>) -> Fix {
    let port = scene.port;
    let allow = |allow| Fix::Guard { port, allow };
    let process = oldest(&owner.member.processes);
    if let Some(unit) = process.and_then(|process| service_of(process).unit) {
        return allow(GuardAllow::Unit(unit));
    }
    let details = process.and_then(|process| process.details.as_ref());
    let theirs = oldest(&other.member.processes).and_then(|process| process.details.as_ref());
    let executable = details.and_then(|details| details.executable.as_ref());
    let is_theirs = theirs.is_some_and(|theirs| theirs.executable.as_ref() == executable);
    match executable {
        Some(path) if !is_theirs && !runs_arguments(path) => {
            return allow(GuardAllow::Executable(path.clone()));
        }
        _ => {}
    }
    if owner.has_other_user_than(other) {
        return allow(GuardAllow::User(socket_user(owner.member)));
    }
    let cgroup = details.and_then(|details| details.cgroup.as_ref());
    let apart = theirs.is_some_and(|theirs| theirs.cgroup.as_ref() != cgroup);
    match cgroup {
        Some(path) if apart && path != "/" => allow(GuardAllow::Cgroup(path.clone())),
        _ => Fix::Private {
            command: details.map(|details| details.command.clone()).unwrap_or_default(),
            uid: details.and_then(|details| details.uid),
        },
    }
}

/// A port that the kernel gave away is to be given away no more; whoever took it on purpose has to go.
pub(super) fn reserve_or_end(scene: &PortView<'_>, process: Option<&Process>) -> Fix {
    let machine = &scene.facts.kernel;
    if machine.ephemeral_ports.contains(&scene.port) {
        return Fix::Reserve { port: scene.port, already_reserved: machine.reserved_ports.clone() };
    }
    match process {
        Some(process) => Fix::Kill { pid: process.pid, restrict_ptrace: false },
        None => Fix::AuditAsRoot,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::audit;
    use crate::audit::fixtures::{PortFixture, ProcessFixture, actor, api, stranger, tcp};

    fn fix(owner: &ProcessFixture, other: &ProcessFixture, uid: u32) -> Fix {
        let at = tcp("0.0.0.0:80");
        let stage = PortFixture::default().with(at.clone(), &[owner]).of(uid, at, &[other]);
        audit(&stage.facts).remove(0).fix
    }

    #[test]
    fn a_guard_tells_them_apart() {
        let allow = |allow| Fix::Guard { port: 80, allow };
        let native = actor(100, "/usr/bin/server", &[]);
        let script = actor(100, "/usr/bin/python3.11", &["/srv/api.py"]);
        let elsewhere = script.clone().in_cgroup("/user.slice/api.scope");
        let command = vec!["/usr/bin/python3.11".to_owned(), "/srv/api.py".to_owned()];
        let cases = [
            (&api(), 1000, allow(GuardAllow::Unit("api.service".into()))),
            (&native, 1000, allow(GuardAllow::Executable("/usr/bin/server".into()))),
            (&script, 1001, allow(GuardAllow::User(1000))),
            (&elsewhere, 1000, allow(GuardAllow::Cgroup("/user.slice/api.scope".into()))),
            (&script, 1000, Fix::Private { command, uid: Some(1000) }),
        ];
        for (owner, uid, expected) in cases {
            assert_eq!(fix(owner, &stranger(), uid), expected);
        }
    }
}
