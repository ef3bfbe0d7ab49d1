//! The members of one port and the program of each.

use std::collections::{BTreeMap, HashSet};

use super::facts::AuditFacts;
use super::finding::{Finding, FindingKind, Fix, Party, Severity};
use super::precedence::{precedence, socket_user};
use super::programs::ProgramSets;
use super::service::service_of;
use crate::holder::{Holder, HolderClass, classify};
use crate::model::{Address, Member, Process, Protocol, SocketState};

/// The sockets of one port and protocol.
pub(super) struct PortView<'a> {
    pub(super) facts: &'a AuditFacts,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    /// The waiting and bound sockets, by precedence. Equivalent sockets of one program appear once.
    pub(super) participants: Vec<Participant<'a>>,
    /// All waiting and bound sockets.
    pub(super) members: Vec<&'a Member>,
    /// The program of each.
    programs: Vec<Option<usize>>,
    /// The connections.
    pub(super) connections: Vec<&'a Member>,
}

/// A member and its program.
#[derive(Clone, Copy)]
pub(super) struct Participant<'a> {
    pub(super) member: &'a Member,
    /// A number that all members of one program have in common; `None` if the processes are hidden.
    pub(super) program: Option<usize>,
}

impl<'a> PortView<'a> {
    /// One view for each port.
    pub(super) fn by_port(facts: &'a AuditFacts) -> Vec<Self> {
        let mut ports: BTreeMap<(Protocol, u16), Vec<&Member>> = BTreeMap::new();
        for member in &facts.members {
            let address = &member.socket.address;
            ports.entry((address.protocol, address.port())).or_default().push(member);
        }
        ports.into_iter().map(|(port, members)| Self::new(facts, port, members)).collect()
    }

    fn new(facts: &'a AuditFacts, (protocol, port): (Protocol, u16), all: Vec<&'a Member>) -> Self {
        let connected = |member: &&Member| member.socket.state == SocketState::Connected;
        let (connections, mut members): (Vec<_>, Vec<_>) = all.into_iter().partition(connected);
        members.sort_by_key(|member| precedence(member));
        let mut programs = ProgramSets::default();
        let mut participants: Vec<_> = members
            .iter()
            .map(|member| Participant { member, program: programs.add(member, facts) })
            .collect();
        for participant in &mut participants {
            participant.program = participant.program.map(|it| programs.representative(it));
        }
        let of_members = participants.iter().map(|participant| participant.program).collect();
        let mut keys = HashSet::new();
        participants.retain(|participant| keys.insert(participant.key()));
        Self { facts, protocol, port, participants, members, programs: of_members, connections }
    }

    /// A finding about two members of this port.
    pub(super) fn finding(
        &self,
        kind: FindingKind,
        severity: Severity,
        owner: &Participant<'_>,
        intruder: &Participant<'_>,
        fix: Fix,
    ) -> Finding {
        Finding {
            owner: Some(self.party(owner.member)),
            intruder: Some(self.party(intruder.member)),
            ..self.port_finding(kind, severity, fix)
        }
    }

    /// A finding about this port, without parties.
    pub(super) fn port_finding(&self, kind: FindingKind, severity: Severity, fix: Fix) -> Finding {
        let port = Some((self.protocol, self.port));
        Finding { kind, severity, port, intruder: None, owner: None, bpf_program: None, fix }
    }

    /// Who holds a socket of this port.
    pub(super) fn holder(&self, member: &Member) -> Holder {
        let all: Vec<&Member> = self.members.iter().chain(&self.connections).copied().collect();
        classify(member, &all, &self.facts.holders)
    }

    /// The side of a finding with this socket.
    pub(super) fn party(&self, member: &Member) -> Party {
        party(member, &self.holder(member))
    }

    /// All waiting and bound sockets of this program.
    pub(super) fn of_program<'b>(
        &'b self,
        participant: &'b Participant<'_>,
    ) -> impl Iterator<Item = &'a Member> + 'b {
        let is_of = move |(member, program): &(&&Member, &Option<usize>)| match participant.program
        {
            None => member.socket.inode == participant.member.socket.inode,
            known => **program == known,
        };
        self.members.iter().zip(&self.programs).filter(is_of).map(|(member, _)| *member)
    }

    /// The members that receive traffic.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Participant<'a>> {
        let waits = |it: &&Participant<'_>| it.member.socket.state == SocketState::Waiting;
        self.participants.iter().filter(waits).copied()
    }
}

impl<'a> Participant<'a> {
    /// Everything that distinguishes members for the findings.
    fn key(&self) -> impl Eq + std::hash::Hash + use<'a> {
        let Self { member, program } = *self;
        let socket = &member.socket;
        let cgroup_if_hidden = program.is_none().then_some(socket.cgroup);
        let reuse = member.options.map(|options| (options.reuse_port, options.reuse_address));
        let steered = member.position.is_some_and(|position| position.steered);
        (program, cgroup_if_hidden, &socket.address, socket.state, socket.uid, reuse, steered)
    }

    pub(super) fn address(&self) -> &'a Address {
        &self.member.socket.address
    }

    /// Whether the other is a different program. If the processes of one are hidden, a different
    /// user is required as evidence.
    pub(super) fn is_stranger_to(&self, other: &Self) -> bool {
        match (self.program, other.program) {
            (Some(one), Some(other)) => one != other,
            _ => self.has_other_user_than(other) && !self.shares_cgroup_with(other),
        }
    }

    pub(super) fn has_other_user_than(&self, other: &Self) -> bool {
        socket_user(self.member) != socket_user(other.member)
    }

    /// The severity of a conflict between the two.
    pub(super) fn severity(&self, other: &Self) -> Severity {
        match self.has_other_user_than(other) {
            true => Severity::Danger,
            false => Severity::Warning,
        }
    }

    /// Whether both sockets were created in one cgroup other than the root: most likely one service.
    pub(super) fn shares_cgroup_with(&self, other: &Self) -> bool {
        const ROOT: u64 = 1;
        let cgroup = self.member.socket.cgroup;
        cgroup.is_some_and(|id| id != ROOT) && cgroup == other.member.socket.cgroup
    }
}

/// The side of a finding with this socket.
pub(super) fn party(member: &Member, holder: &Holder) -> Party {
    let run = match &holder.class {
        HolderClass::Run { of, .. } => Some(of.clone()),
        _ => None,
    };
    Party { run, ..party_of(member, holder.process.as_ref()) }
}

/// The side of a finding with this socket and process.
pub(super) fn party_of(member: &Member, process: Option<&Process>) -> Party {
    Party {
        address: member.socket.address.clone(),
        state: member.socket.state,
        inode: member.socket.inode,
        uid: member.socket.uid,
        user: member.user.clone(),
        process: process.cloned(),
        run: None,
        service: process.map(service_of).unwrap_or_default(),
    }
}
