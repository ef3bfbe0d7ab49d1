//! Builders of sockets and processes for the tests.

use std::path::PathBuf;
use std::time::Duration;

use super::audit;
use super::facts::{AuditFacts, ProgramEvidence};
use super::finding::Finding;
use crate::guard::{Binder, FileId};
use crate::model::{Address, Member, Process, ProcessDetails, Protocol, Socket, SocketState};

/// A process of user 1000. It starts `pid` seconds after 1970.
#[derive(Debug, Clone)]
pub(super) struct ProcessFixture {
    pub(super) process: Process,
    pub(super) evidence: ProgramEvidence,
}

pub(super) fn process(pid: i32, executable: &str, arguments: &[&str]) -> ProcessFixture {
    let program = executable.rsplit('/').next().unwrap_or_default();
    let command = [executable].iter().chain(arguments).map(|&word| word.to_owned()).collect();
    let details = ProcessDetails {
        uid: Some(1000),
        parent: Some(1),
        command,
        executable: Some(executable.into()),
        directory: Some("/home/user".into()),
        cgroup: Some("/user.slice/user-1000.slice/session-3.scope".into()),
        started: Some(Duration::from_secs(u64::from(pid.unsigned_abs()))),
    };
    let file = executable.bytes().fold(0_u64, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte));
    let evidence = ProgramEvidence {
        executable: Some((1, file)),
        directory: Some(PathBuf::from("/home/user")),
        ancestors: vec![1],
        runs: vec![],
        binder: None,
    };
    ProcessFixture {
        process: Process { details: Some(details), ..Process::new(pid, program) },
        evidence,
    }
}

impl ProcessFixture {
    fn details(&mut self) -> &mut ProcessDetails {
        self.process.details.get_or_insert_default()
    }

    pub(super) fn in_cgroup(mut self, path: &str) -> Self {
        self.details().cgroup = Some(path.to_owned());
        self
    }

    /// With these ancestors, parent first.
    pub(super) fn below(mut self, above: &[i32]) -> Self {
        self.details().parent = above.first().copied();
        self.evidence.ancestors = above.to_vec();
        self
    }

    pub(super) fn of_user(mut self, uid: u32) -> Self {
        self.details().uid = Some(uid);
        self
    }

    pub(super) fn at(mut self, directory: Option<&str>) -> Self {
        self.evidence.directory = directory.map(PathBuf::from);
        self
    }
}

/// A service, and below a script: two unrelated programs.
pub(super) fn api() -> ProcessFixture {
    process(100, "/usr/bin/api", &[]).in_cgroup("/system.slice/api.service")
}

pub(super) fn stranger() -> ProcessFixture {
    process(200, "/usr/bin/python3.11", &["/home/user/x.py"])
}

pub(super) fn tcp(text: &str) -> Address {
    Address::new(Protocol::Tcp, text.parse().unwrap())
}

pub(super) fn udp(text: &str) -> Address {
    Address::new(Protocol::Udp, text.parse().unwrap())
}

/// The sockets of a port. The first socket has inode 1, the next 2.
#[derive(Debug, Clone)]
pub(super) struct PortFixture {
    pub(super) facts: AuditFacts,
}

impl Default for PortFixture {
    fn default() -> Self {
        Self { facts: AuditFacts { can_guard: true, ..AuditFacts::default() } }
    }
}

/// The properties that a guard compares, from the details.
fn binder(process: &ProcessFixture) -> Option<Binder> {
    let details = process.process.details.as_ref()?;
    let (device, inode) = process.evidence.executable?;
    let executable = Some(FileId { device, inode, generation: None });
    Some(Binder { uid: details.uid?, cgroup: details.cgroup.clone(), executable })
}

impl PortFixture {
    /// Adds a waiting socket of user 1000 that these processes have open.
    pub(super) fn with(self, address: Address, processes: &[&ProcessFixture]) -> Self {
        self.with_changed(address, processes, |_| ())
    }

    /// Adds a waiting socket of this user.
    pub(super) fn of(self, uid: u32, address: Address, processes: &[&ProcessFixture]) -> Self {
        self.with_changed(address, processes, |member| member.socket.uid = uid)
    }

    pub(super) fn in_state(
        self,
        state: SocketState,
        address: Address,
        processes: &[&ProcessFixture],
    ) -> Self {
        self.with_changed(address, processes, |member| member.socket.state = state)
    }

    pub(super) fn with_changed(
        mut self,
        address: Address,
        processes: &[&ProcessFixture],
        change: impl FnOnce(&mut Member),
    ) -> Self {
        let inode = self.facts.members.len() as u64 + 1;
        let mut member = Member::new(Socket {
            backlog: 128,
            cookie: inode,
            ..Socket::new(address, inode, 1000)
        });
        member.processes = processes.iter().map(|process| process.process.clone()).collect();
        change(&mut member);
        self.facts.members.push(member);
        for process in processes {
            let evidence = ProgramEvidence { binder: binder(process), ..process.evidence.clone() };
            self.facts.evidence.insert(process.process.pid, evidence);
        }
        self
    }

    pub(super) fn port(mut self, port: u16) -> Self {
        self.facts.port = Some(port);
        self
    }

    /// Of each finding: id, severity, inode and pid of the intruder, inode of the owner.
    pub(super) fn found(&self) -> Vec<(&'static str, &'static str, u64, i32, u64)> {
        let columns = |finding: Finding| {
            let inode = |party: &Option<super::finding::Party>| {
                party.as_ref().map_or(0, |party| party.inode)
            };
            let pid = finding
                .intruder
                .as_ref()
                .and_then(|party| party.process.as_ref())
                .map_or(0, |process| process.pid);
            let (intruder, owner) = (inode(&finding.intruder), inode(&finding.owner));
            (finding.kind.id(), finding.severity.name(), intruder, pid, owner)
        };
        audit(&self.facts).into_iter().map(columns).collect()
    }

    #[track_caller]
    pub(super) fn finds(&self, expected: &[(&str, &str, u64, i32, u64)]) {
        assert_eq!(self.found(), expected, "{:#?}", self.facts.members);
    }
}
