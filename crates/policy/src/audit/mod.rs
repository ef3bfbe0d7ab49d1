//! What is wrong with who is on a port: facts in, findings out.
//!
//! `kin` tells which processes are one program, `scene` sorts the members of a port by that; each
//! other file is a family of findings. `docs/audit.md` explains every one of them.

mod fd_holders;
mod fix;
#[cfg(test)]
mod fixtures;
mod identity;
mod more_specific;
mod not_serving;
mod other_family;
mod owner;
mod port_view;
mod redirection;
mod shared_address;
mod shared_by_design;
mod takeover;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::membership::RunIdentity;
use crate::model::{Address, Member, Process, Protocol, SocketState};

pub use fix::{Fix, GuardAllow};
pub use owner::{ServiceOrContainer, service_or_container};
pub use takeover::TakeoverTracker;

use port_view::PortView;

/// All that is looked at.
#[derive(Debug, Clone, Default)]
pub struct AuditFacts {
    /// Sockets in every state, with what is known of who has them open.
    pub members: Vec<Member>,
    /// More of the processes among them, by pid.
    pub evidence: BTreeMap<i32, ProgramEvidence>,
    /// The machine's settings.
    pub kernel: KernelSettings,
    /// The port that was asked about; `None` for all. What stands in the way there is then told even
    /// where it is nothing unusual, such as a connection.
    pub port: Option<u16>,
    /// What chooses a socket before the kernel's own lookup does.
    pub redirections: Vec<Redirection>,
}

/// Of a process, what tells whether another is the same program. What cannot be seen is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgramEvidence {
    /// Device and inode number of the file that it executes: a path can be anything in another mount
    /// namespace.
    pub executable: Option<(u64, u64)>,
    /// Its working directory.
    pub directory: Option<PathBuf>,
    /// The processes above it, the nearest first.
    pub ancestors: Vec<i32>,
    /// The `sameport run`s that it is in, the nearest first.
    pub runs: Vec<RunIdentity>,
}

/// Settings of the machine, or of the network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSettings {
    /// `net.ipv4.ip_local_port_range`: the ports that the kernel gives to who asks for none.
    pub ephemeral_ports: RangeInclusive<u16>,
    /// `net.ipv4.ip_local_reserved_ports`, as it is written there: the exceptions from that.
    pub reserved_ports: String,
    /// `kernel.yama.ptrace_scope`; `None` without Yama, which is like 0: a program may take what
    /// another of the same user has open.
    pub ptrace_scope: Option<u8>,
    /// Whether process 1 hands sockets to services, as systemd does: who is below it is then not
    /// known to be one of its own.
    pub init_passes_sockets: bool,
}

impl Default for KernelSettings {
    /// Linux's own.
    fn default() -> Self {
        let (reserved, ptrace_scope) = (String::new(), None);
        Self {
            ephemeral_ports: 32_768..=60_999,
            reserved_ports: reserved,
            ptrace_scope,
            init_passes_sockets: false,
        }
    }
}

/// Something in the network namespace that can give traffic to any socket, whatever its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    /// An eBPF program at `sk_lookup`, by its number.
    pub program: u32,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Two programs of one user share or stand in each other's way: a mistake, or an intruder who has
    /// that user's rights already.
    Warning,
    /// Another user is involved, or all traffic goes to the stranger.
    Danger,
}

impl Severity {
    /// `warning`, `danger`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Danger => "danger",
        }
    }
}

/// What was found. [`Kind::id`] is its name in JSON and in the documentation, and does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// Two programs of one user are members of one address.
    SharedWithStranger,
    /// The same, and one of the sockets has no process that could be seen.
    SharedWithUnseen,
    /// The same, and a program attached to the group chooses who gets what.
    SteeredByStranger,
    /// Two TCP sockets listen on one address that the kernel would not let listen there.
    DuplicateListener,
    /// Of two UDP sockets on one address, the newest takes every datagram.
    NewestTakesAll,
    /// Another program takes a part of an address whole.
    NarrowerAddress,
    /// Another program has the same port of the other IP version, by which the name of the machine
    /// can mean either.
    SiblingAddress,
    /// Somebody listens where another user is bound and can no more listen.
    OvertakenBeforeListen,
    /// Somebody is bound where nobody listens.
    BoundNotListening,
    /// A connection has the port where nobody listens.
    TakenByConnection,
    /// Connections wait at a listener that takes none.
    QueueClosed,
    /// A stranger has an address that another has left. Only who watches sees that.
    TakenInTheGap,
    /// Two programs have one socket open.
    HeldByStranger,
    /// An eBPF program chooses sockets in this network namespace.
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

    /// Its name for programs.
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

/// One side of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Where its socket is.
    pub address: Address,
    /// What its socket does there.
    pub state: SocketState,
    /// The socket's inode number.
    pub inode: u64,
    /// The socket's user.
    pub uid: u32,
    /// The login name, if that has one.
    pub user: Option<String>,
    /// The process that stands for it: the one of its processes that was started first.
    pub process: Option<Process>,
    /// Where that belongs.
    pub service: ServiceOrContainer,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// How bad.
    pub severity: Severity,
    /// Where: protocol and port; `None` for all of the machine.
    pub port: Option<(Protocol, u16)>,
    /// Who takes, as far as it can be told: the one that was started later and is not a service.
    pub intruder: Option<Party>,
    /// From whom.
    pub owner: Option<Party>,
    /// The eBPF program of a [`Kind::Redirected`].
    pub bpf_program: Option<u32>,
    /// What ends it, or keeps it from happening again.
    pub fix: Fix,
}

impl Finding {
    /// Whether it is about the same sockets and processes: as if it was seen again.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let pid = |party: &Option<Party>| {
            let party = party.as_ref()?;
            Some((party.inode, party.process.as_ref().map(|process| process.pid)))
        };
        self.kind == other.kind
            && self.port == other.port
            && self.bpf_program == other.bpf_program
            && pid(&self.intruder) == pid(&other.intruder)
            && pid(&self.owner) == pid(&other.owner)
    }
}

/// Everything that is wrong, by port, the worst first.
#[must_use]
pub fn audit(facts: &AuditFacts) -> Vec<Finding> {
    let mut findings = redirection::findings(facts);
    for scene in PortView::of(facts) {
        findings.extend(shared_address::findings(&scene));
        findings.extend(more_specific::findings(&scene));
        findings.extend(other_family::findings(&scene));
        findings.extend(not_serving::findings(&scene));
        findings.extend(fd_holders::findings(&scene));
    }
    findings
        .sort_by_key(|finding| (finding.port, std::cmp::Reverse(finding.severity), finding.kind));
    findings
}

/// Every socket that waits or is bound, by its cookie, and who has it.
#[must_use]
pub fn parties(facts: &AuditFacts) -> BTreeMap<u64, Party> {
    let waits = |member: &&Member| member.socket.state != SocketState::Connected;
    let party = |member: &Member| port_view::party(member, port_view::oldest(&member.processes));
    let members = facts.members.iter().filter(waits);
    members.map(|member| (member.socket.cookie, party(member))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> =
            FindingKind::ALL.iter().map(|kind| kind.id()).collect();
        assert_eq!(names.len(), FindingKind::ALL.len());
        let kebab = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(names.iter().all(kebab), "{names:?}");
    }

    #[test]
    fn nothing_is_wrong_with_nobody() {
        assert_eq!(audit(&AuditFacts::default()), []);
    }
}
