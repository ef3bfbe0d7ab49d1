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
pub use owner::{ServiceOrContainer, place};
pub use takeover::TakeoverTracker;

use port_view::PortView;

/// All that is looked at.
#[derive(Debug, Clone, Default)]
pub struct AuditFacts {
    /// Sockets in every state, with what is known of who has them open.
    pub members: Vec<Member>,
    /// More of the processes among them, by pid.
    pub traces: BTreeMap<i32, ProgramEvidence>,
    /// The machine's settings.
    pub machine: KernelSettings,
    /// The port that was asked about; `None` for all. What stands in the way there is then told even
    /// where it is nothing unusual, such as a connection.
    pub asked: Option<u16>,
    /// What chooses a socket before the kernel's own lookup does.
    pub redirections: Vec<Redirection>,
}

/// Of a process, what tells whether another is the same program. What cannot be seen is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgramEvidence {
    /// Device and inode number of the file that it executes: a path can be anything in another mount
    /// namespace.
    pub file: Option<(u64, u64)>,
    /// Its working directory.
    pub directory: Option<PathBuf>,
    /// The processes above it, the nearest first.
    pub above: Vec<i32>,
    /// The `sameport run`s that it is in, the nearest first.
    pub runs: Vec<RunIdentity>,
}

/// Settings of the machine, or of the network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSettings {
    /// `net.ipv4.ip_local_port_range`: the ports that the kernel gives to who asks for none.
    pub given_away: RangeInclusive<u16>,
    /// `net.ipv4.ip_local_reserved_ports`, as it is written there: the exceptions from that.
    pub reserved: String,
    /// `kernel.yama.ptrace_scope`; `None` without Yama, which is like 0: a program may take what
    /// another of the same user has open.
    pub ptrace_scope: Option<u8>,
    /// Whether process 1 hands sockets to services, as systemd does: who is below it is then not
    /// known to be one of its own.
    pub init_serves: bool,
}

impl Default for KernelSettings {
    /// Linux's own.
    fn default() -> Self {
        let (reserved, ptrace_scope) = (String::new(), None);
        Self { given_away: 32_768..=60_999, reserved, ptrace_scope, init_serves: false }
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
    pub fn word(self) -> &'static str {
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
    Shared,
    /// The same, and one of the sockets has no process that could be seen.
    SharedUnseen,
    /// The same, and a program attached to the group chooses who gets what.
    Steered,
    /// Two TCP sockets listen on one address that the kernel would not let listen there.
    Duplicate,
    /// Of two UDP sockets on one address, the newest takes every datagram.
    Newest,
    /// Another program takes a part of an address whole.
    Narrower,
    /// Another program has the same port of the other IP version, by which the name of the machine
    /// can mean either.
    Sibling,
    /// Somebody listens where another user is bound and can no more listen.
    Overtaken,
    /// Somebody is bound where nobody listens.
    Bound,
    /// A connection has the port where nobody listens.
    Connection,
    /// Connections wait at a listener that takes none.
    Stalled,
    /// A stranger has an address that another has left. Only who watches sees that.
    Succeeded,
    /// Two programs have one socket open.
    Held,
    /// An eBPF program chooses sockets in this network namespace.
    Redirected,
}

impl FindingKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 14] = [
        Self::Shared,
        Self::SharedUnseen,
        Self::Steered,
        Self::Duplicate,
        Self::Newest,
        Self::Narrower,
        Self::Sibling,
        Self::Overtaken,
        Self::Bound,
        Self::Connection,
        Self::Stalled,
        Self::Succeeded,
        Self::Held,
        Self::Redirected,
    ];

    /// Its name for programs.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Shared => "shared-with-stranger",
            Self::SharedUnseen => "shared-with-unseen",
            Self::Steered => "steered-by-stranger",
            Self::Duplicate => "duplicate-listener",
            Self::Newest => "newest-takes-all",
            Self::Narrower => "narrower-address",
            Self::Sibling => "sibling-address",
            Self::Overtaken => "overtaken-before-listen",
            Self::Bound => "bound-not-listening",
            Self::Connection => "taken-by-connection",
            Self::Stalled => "queue-closed",
            Self::Succeeded => "taken-in-the-gap",
            Self::Held => "held-by-stranger",
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
    pub place: ServiceOrContainer,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// How bad.
    pub severity: Severity,
    /// Where: protocol and port; `None` for all of the machine.
    pub at: Option<(Protocol, u16)>,
    /// Who takes, as far as it can be told: the one that was started later and is not a service.
    pub culprit: Option<Party>,
    /// From whom.
    pub victim: Option<Party>,
    /// The eBPF program of a [`Kind::Redirected`].
    pub program: Option<u32>,
    /// What ends it, or keeps it from happening again.
    pub fix: Fix,
}

impl Finding {
    /// Whether it is about the same sockets and processes: as if it was seen again.
    #[must_use]
    pub fn is_again(&self, other: &Self) -> bool {
        let pid = |party: &Option<Party>| {
            let party = party.as_ref()?;
            Some((party.inode, party.process.as_ref().map(|process| process.pid)))
        };
        self.kind == other.kind
            && self.at == other.at
            && self.program == other.program
            && pid(&self.culprit) == pid(&other.culprit)
            && pid(&self.victim) == pid(&other.victim)
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
    findings.sort_by_key(|finding| (finding.at, std::cmp::Reverse(finding.severity), finding.kind));
    findings
}

/// Every socket that waits or is bound, by its cookie, and who has it.
#[must_use]
pub fn parties(facts: &AuditFacts) -> BTreeMap<u64, Party> {
    let waits = |member: &&Member| member.socket.state != SocketState::Connected;
    let party = |member: &Member| port_view::party(member, port_view::first(&member.processes));
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
