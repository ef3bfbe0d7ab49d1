//! Findings and their fixes.

use std::path::PathBuf;

use std::fmt;

use super::service::ServiceOrContainer;
use crate::guard::AllowSpec;
use crate::holder::{EndingStep, RunWorker, Unit};
use crate::model::name::RunName;
use crate::model::{Address, Process, Protocol, SocketState};

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Two programs of one user share or block a port: a mistake, or an intruder that already has
    /// the user's rights.
    Warning,
    /// Another user is involved, or the intruder receives all traffic.
    Danger,
}

impl Severity {
    /// `warning` or `danger`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Danger => "danger",
        }
    }
}

/// The kind of a finding. [`FindingKind::id`] is a stable name for JSON and documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// Two programs of one user are members of one address.
    SharedWithStranger,
    /// The same, and all processes of one socket are hidden.
    SharedWithUnseen,
    /// The same, and a program attached to the group distributes the traffic.
    SteeredByStranger,
    /// Two TCP sockets of different users listen on one address, which the kernel does not allow.
    DuplicateListener,
    /// The newer of two UDP sockets on one address receives every datagram.
    NewestTakesAll,
    /// Another program is bound to a more specific address and receives all of its traffic.
    NarrowerAddress,
    /// Another program has the same port of the other IP version. A host name can resolve to
    /// either.
    SiblingAddress,
    /// Another user listens on an address that was bound before, so `listen` fails for the first.
    OvertakenBeforeListen,
    /// A socket is bound to a port that no socket listens on.
    BoundNotListening,
    /// A connection occupies a port that no socket listens on.
    TakenByConnection,
    /// Connections wait at a listener whose backlog is 0.
    QueueClosed,
    /// Another program took an address that its owner had left. Only `audit --watch` finds it.
    TakenInTheGap,
    /// Two programs have one socket open.
    HeldByStranger,
    /// An eBPF program selects sockets in this network namespace.
    Redirected,
}

impl FindingKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 14] = [
        Self::SharedWithStranger,
        Self::SharedWithUnseen,
        Self::SteeredByStranger,
        Self::DuplicateListener,
        Self::NewestTakesAll,
        Self::NarrowerAddress,
        Self::SiblingAddress,
        Self::OvertakenBeforeListen,
        Self::BoundNotListening,
        Self::TakenByConnection,
        Self::QueueClosed,
        Self::TakenInTheGap,
        Self::HeldByStranger,
        Self::Redirected,
    ];

    /// The stable name.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::SharedWithStranger => "shared-with-stranger",
            Self::SharedWithUnseen => "shared-with-unseen",
            Self::SteeredByStranger => "steered-by-stranger",
            Self::DuplicateListener => "duplicate-listener",
            Self::NewestTakesAll => "newest-takes-all",
            Self::NarrowerAddress => "narrower-address",
            Self::SiblingAddress => "sibling-address",
            Self::OvertakenBeforeListen => "overtaken-before-listen",
            Self::BoundNotListening => "bound-not-listening",
            Self::TakenByConnection => "taken-by-connection",
            Self::QueueClosed => "queue-closed",
            Self::TakenInTheGap => "taken-in-the-gap",
            Self::HeldByStranger => "held-by-stranger",
            Self::Redirected => "redirected",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

/// One side of a finding: a socket and a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// The socket's address.
    pub address: Address,
    /// The socket's state.
    pub state: SocketState,
    /// The socket's inode number.
    pub inode: u64,
    /// The socket's owner.
    pub uid: u32,
    /// The owner's login name, if known.
    pub user: Option<String>,
    /// The process that serves the socket; `None` if all are hidden.
    pub process: Option<Process>,
    /// The named run of the process, and its worker.
    pub run: Option<RunWorker>,
    /// The service or container of the process.
    pub service: ServiceOrContainer,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The kind.
    pub kind: FindingKind,
    /// The severity.
    pub severity: Severity,
    /// The port; `None` for a finding about the whole network namespace.
    pub port: Option<(Protocol, u16)>,
    /// The side that takes traffic, if known: it started later and is not a service.
    pub intruder: Option<Party>,
    /// The side that loses traffic.
    pub owner: Option<Party>,
    /// The eBPF program of a [`FindingKind::Redirected`].
    pub bpf_program: Option<u32>,
    /// The remedy.
    pub fix: Fix,
}

impl Finding {
    /// Whether both are about the same sockets and processes.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let identity = |party: &Option<Party>| {
            let party = party.as_ref()?;
            Some((party.inode, party.process.as_ref().map(|process| process.pid)))
        };
        self.kind == other.kind
            && self.port == other.port
            && self.bpf_program == other.bpf_program
            && identity(&self.intruder) == identity(&other.intruder)
            && identity(&self.owner) == identity(&other.owner)
    }
}

/// The remedy of a finding. Each was tried on the facts: a guard lets the owner's processes bind and refuses
/// the other's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fix {
    /// `sameport guard PORT/PROTOCOL --allow …`: all others can no longer bind the port.
    Guard {
        /// The port.
        port: u16,
        /// The protocol.
        protocol: Protocol,
        /// The programs that may bind it.
        allow: Vec<AllowSpec>,
    },
    /// `sameport run --private …`: no guard rule distinguishes the two programs, so only a private group
    /// excludes the other.
    Private {
        /// The words after `sameport`; `None` if the owner's command is unknown.
        command: Option<Vec<String>>,
        /// The directory of the program, for `--directory`, which the command lacks; `None` if it is unknown.
        directory: Option<PathBuf>,
        /// The user of the owner's process. Root must not execute a command that another user
        /// wrote.
        uid: Option<u32>,
        /// The steps that end both programs first: a private group shares with no socket outside it.
        after: Vec<EndingStep>,
    },
    /// End the holder of the socket.
    End {
        /// The steps.
        steps: Vec<EndingStep>,
        /// Also set `kernel.yama.ptrace_scope`, so that programs cannot duplicate the descriptors
        /// of others.
        restrict_ptrace: bool,
    },
    /// Add the port to `net.ipv4.ip_local_reserved_ports`, so that the kernel does not assign it.
    Reserve {
        /// The port.
        port: u16,
        /// The current value.
        already_reserved: String,
    },
    /// Restart the service.
    Restart(Unit),
    /// Restart the workers of the run of this user.
    RestartRun(RunName, Option<u32>),
    /// `bpftool prog show id N` names the owner of the program.
    ShowBpfProgram(u32),
    /// Only root sees the process.
    AuditAsRoot,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_kebab_case() {
        let ids: BTreeSet<_> = FindingKind::ALL.iter().map(|kind| kind.id()).collect();
        assert_eq!(ids.len(), FindingKind::ALL.len());
        let is_kebab = |id: &&str| id.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(ids.iter().all(is_kebab), "{ids:?}");
    }
}
