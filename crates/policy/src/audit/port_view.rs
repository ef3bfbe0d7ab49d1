//! The members of one port, sorted by which program each belongs to.

use std::collections::BTreeMap;

use super::fix::guard;
use super::identity::{EvidenceSource, are_one_program, service_of};
use super::{AuditFacts, Finding, FindingKind, Party, Severity};
use crate::model::is_private_uid;
use crate::model::{Address, Member, Process, Protocol, SocketState};

/// Of a socket that more processes have open, these many stand for all: copies of one program.
const COMPARED_PROCESSES: usize = 8;

/// All that is bound to one port by one protocol.
pub(super) struct PortView<'a> {
    pub(super) facts: &'a AuditFacts,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    /// Whoever waits, or is bound. Of a program that has many sockets on one address, which differ in
    /// nothing that matters here, one: the others are like it.
    pub(super) participants: Vec<Participant<'a>>,
    /// Every socket that waits or is bound.
    pub(super) members: Vec<&'a Member>,
    /// The connections.
    pub(super) connections: Vec<&'a Member>,
}

/// A member, and which program it is.
#[derive(Clone, Copy)]
pub(super) struct Participant<'a> {
    pub(super) member: &'a Member,
    /// The same for all that are one program; `None` if none of its processes can be seen.
    pub(super) program: Option<usize>,
}

impl<'a> PortView<'a> {
    /// One for each port.
    pub(super) fn of(facts: &'a AuditFacts) -> Vec<Self> {
        let mut ports: BTreeMap<(Protocol, u16), Vec<&Member>> = BTreeMap::new();
        for member in &facts.members {
            let address = &member.socket.address;
            ports.entry((address.protocol, address.port())).or_default().push(member);
        }
        let scene = |((protocol, port), members)| Self::new(facts, protocol, port, members);
        ports.into_iter().map(scene).collect()
    }

    fn new(facts: &'a AuditFacts, protocol: Protocol, port: u16, all: Vec<&'a Member>) -> Self {
        let connected = |member: &&Member| member.socket.state == SocketState::Connected;
        let (connections, mut members): (Vec<_>, Vec<_>) = all.into_iter().partition(connected);
        members.sort_by_key(|member| precedence(member));
        let mut programs = ProgramSets::default();
        let mut seen = std::collections::HashSet::new();
        let mut participants = Vec::new();
        for &member in &members {
            let program = programs.of(member, facts);
            participants.push(Participant { member, program });
        }
        for actor in &mut participants {
            actor.program = actor.program.map(|program| programs.joined(program));
        }
        participants.retain(|Participant { member, program }| {
            let socket = &member.socket;
            let unseen = program.is_none().then_some(socket.cgroup);
            seen.insert((
                *program,
                unseen,
                &socket.address,
                socket.state,
                socket.uid,
                compared_options(member),
            ))
        });
        Self { facts, protocol, port, participants, members, connections }
    }

    /// That `other` is on a port of `owner`'s.
    pub(super) fn finding(
        &self,
        kind: FindingKind,
        severity: Severity,
        owner: &Participant<'_>,
        other: &Participant<'_>,
    ) -> Finding {
        Finding {
            kind,
            severity,
            port: Some((self.protocol, self.port)),
            fix: guard(self, owner, other),
            intruder: Some(other.party()),
            owner: Some(owner.party()),
            bpf_program: None,
        }
    }

    /// Those that wait: they get traffic.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Participant<'a>> {
        let waits = |actor: &&Participant<'_>| actor.member.socket.state == SocketState::Waiting;
        self.participants.iter().filter(waits).copied()
    }
}

/// What else of a member decides about findings.
fn compared_options(member: &Member) -> (Option<bool>, Option<bool>, bool) {
    let options = member.options;
    (
        options.map(|options| options.reuse_port),
        options.map(|options| options.reuse_address),
        member.position.is_some_and(|position| position.steered),
    )
}

impl<'a> Participant<'a> {
    pub(super) fn address(&self) -> &'a Address {
        &self.member.socket.address
    }

    /// Whether the other is known to be another program, or, with nothing known of one of them, is at
    /// least another user's.
    pub(super) fn is_stranger_to(&self, other: &Self) -> bool {
        match (self.program, other.program) {
            (Some(one), Some(other)) => one != other,
            _ => self.has_other_user_than(other) && !self.shares_cgroup_with(other),
        }
    }

    pub(super) fn has_other_user_than(&self, other: &Self) -> bool {
        socket_user(self.member) != socket_user(other.member)
    }

    /// How bad it is that the other stands in the way.
    pub(super) fn severity(&self, other: &Self) -> Severity {
        match self.has_other_user_than(other) {
            true => Severity::Danger,
            false => Severity::Warning,
        }
    }

    /// Whether both sockets were made in one cgroup that is not everybody's: in one service, most likely.
    pub(super) fn shares_cgroup_with(&self, other: &Self) -> bool {
        const ROOT: u64 = 1;
        let cgroup = self.member.socket.cgroup;
        cgroup.is_some_and(|number| number != ROOT) && cgroup == other.member.socket.cgroup
    }

    pub(super) fn party(&self) -> Party {
        party(self.member, oldest(&self.member.processes))
    }
}

/// The user that a socket is of: a private group's socket is owned by nobody, and its process tells.
pub(super) fn socket_user(member: &Member) -> u32 {
    let uid = member.socket.uid;
    let of_process = |process: &Process| process.details.as_ref()?.uid;
    let private =
        is_private_uid(uid).then(|| oldest(&member.processes).and_then(of_process)).flatten();
    private.unwrap_or(uid)
}

/// The process that was started first.
pub(super) fn oldest(processes: &[Process]) -> Option<&Process> {
    processes.iter().min_by_key(|process| started(process))
}

pub(super) fn party(member: &Member, process: Option<&Process>) -> Party {
    Party {
        address: member.socket.address.clone(),
        state: member.socket.state,
        inode: member.socket.inode,
        uid: member.socket.uid,
        user: member.user.clone(),
        process: process.cloned(),
        service: process.map(service_of).unwrap_or_default(),
    }
}

/// Who was here first, and by right: services before what somebody started, then by age. The kernel
/// does not tell when a socket was made; its process cannot be younger.
pub(super) fn precedence(member: &Member) -> (bool, std::time::Duration, i32, u64) {
    let process = oldest(&member.processes);
    let (no_service, started, pid) =
        process.map_or((true, std::time::Duration::MAX, i32::MAX), seniority);
    (no_service, started, pid, member.socket.inode)
}

/// The same of a process.
pub(super) fn seniority(process: &Process) -> (bool, std::time::Duration, i32) {
    let (started, pid) = started(process);
    (service_of(process).unit.is_none(), started, pid)
}

fn started(process: &Process) -> (std::time::Duration, i32) {
    let started = process.details.as_ref().and_then(|details| details.started);
    (started.unwrap_or(std::time::Duration::MAX), process.pid)
}

/// Which program a socket belongs to. Programs turn out to be one when a socket of both is met.
#[derive(Default)]
struct ProgramSets<'a> {
    sockets: Vec<Vec<&'a Member>>,
    /// For every number given away, the one that it turned out to be.
    one: Vec<usize>,
    /// Which program a process belongs to, for sockets of one user.
    processes: std::collections::HashMap<(i32, u32), usize>,
}

impl<'a> ProgramSets<'a> {
    fn of(&mut self, member: &'a Member, facts: &AuditFacts) -> Option<usize> {
        /// Of a program with more sockets, these many stand for all.
        const COMPARED: usize = 4;
        member.processes.first()?;
        let uid = socket_user(member);
        let known = member.processes.iter().filter_map(|it| self.processes.get(&(it.pid, uid)));
        let known: Vec<_> = known.copied().collect();
        let mut mine = None;
        for program in known {
            let program = self.joined(program);
            mine = Some(mine.map_or(program, |mine| self.join(mine, program)));
        }
        if mine.is_none() {
            for program in 0..self.sockets.len() {
                if self.one[program] == program
                    && self.sockets[program]
                        .iter()
                        .take(COMPARED)
                        .any(|other| share_a_program(member, other, facts))
                {
                    mine = Some(mine.map_or(program, |mine| self.join(mine, program)));
                }
            }
        }
        let mine = mine.unwrap_or_else(|| {
            self.sockets.push(Vec::new());
            self.one.push(self.one.len());
            self.one.len() - 1
        });
        self.sockets[mine].push(member);
        for process in &member.processes {
            self.processes.insert((process.pid, uid), mine);
        }
        Some(mine)
    }

    fn join(&mut self, one: usize, other: usize) -> usize {
        if one == other {
            return one;
        }
        let moved = std::mem::take(&mut self.sockets[other]);
        self.sockets[one].extend(moved);
        self.one[other] = one;
        one
    }

    fn joined(&self, mut program: usize) -> usize {
        while self.one[program] != program {
            program = self.one[program];
        }
        program
    }
}

fn share_a_program(one: &Member, other: &Member, facts: &AuditFacts) -> bool {
    let between = if socket_user(one) == socket_user(other) {
        EvidenceSource::OneUser
    } else {
        EvidenceSource::Users
    };
    let pids = |member: &Member| member.processes.iter().map(|it| it.pid).collect::<Vec<_>>();
    let others = pids(other);
    pids(one).iter().any(|pid| others.contains(pid))
        || one.processes.iter().take(COMPARED_PROCESSES).any(|process| {
            let mut theirs = other.processes.iter().take(COMPARED_PROCESSES);
            theirs.any(|other| are_one_program(process, other, between, facts))
        })
}
