//! Sockets and processes for the tests, in few words.

use std::path::PathBuf;
use std::time::Duration;

use super::{AuditFacts, Finding, ProgramEvidence, audit};
use crate::model::{Address, Member, Process, ProcessDetails, Protocol, Socket, SocketState};

/// A process: pid, the file it executes, its arguments; started as many seconds in as its pid says.
#[derive(Debug, Clone)]
pub(super) struct ProcessFixture {
    pub(super) process: Process,
    pub(super) trace: ProgramEvidence,
}

pub(super) fn actor(pid: i32, executable: &str, arguments: &[&str]) -> ProcessFixture {
    let program = executable.rsplit('/').next().unwrap_or_default();
    let command = [executable].iter().chain(arguments).map(|&word| word.to_owned()).collect();
    let details = ProcessDetails {
        uid: Some(1000),
        parent: Some(1),
        command,
        executable: Some(executable.into()),
        cgroup: Some("/user.slice/user-1000.slice/session-3.scope".into()),
        started: Some(Duration::from_secs(u64::from(pid.unsigned_abs()))),
    };
    let file = executable.bytes().fold(0_u64, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte));
    let trace = ProgramEvidence {
        executable: Some((1, file)),
        directory: Some(PathBuf::from("/home/ann")),
        ancestors: vec![1],
        runs: vec![],
    };
    ProcessFixture {
        process: Process { details: Some(details), ..Process::new(pid, program) },
        trace,
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

    /// Started by these, the nearest first.
    pub(super) fn below(mut self, above: &[i32]) -> Self {
        self.details().parent = above.first().copied();
        self.trace.ancestors = above.to_vec();
        self
    }

    pub(super) fn of_user(mut self, uid: u32) -> Self {
        self.details().uid = Some(uid);
        self
    }

    pub(super) fn at(mut self, directory: Option<&str>) -> Self {
        self.trace.directory = directory.map(PathBuf::from);
        self
    }
}

/// Two programs that have nothing to do with each other.
pub(super) fn api() -> ProcessFixture {
    actor(100, "/usr/bin/api", &[]).in_cgroup("/system.slice/api.service")
}

pub(super) fn stranger() -> ProcessFixture {
    actor(200, "/usr/bin/python3.11", &["/home/ann/x.py"])
}

pub(super) fn tcp(text: &str) -> Address {
    Address::new(Protocol::Tcp, text.parse().unwrap())
}

pub(super) fn udp(text: &str) -> Address {
    Address::new(Protocol::Udp, text.parse().unwrap())
}

/// A stage on which sockets appear; inodes count up.
#[derive(Debug, Clone, Default)]
pub(super) struct PortFixture {
    pub(super) facts: AuditFacts,
}

impl PortFixture {
    /// A socket of user 1000 that waits, which these have open.
    pub(super) fn with(self, address: Address, actors: &[&ProcessFixture]) -> Self {
        self.with_but(address, actors, |_| ())
    }

    /// The same, of this user.
    pub(super) fn of(self, uid: u32, address: Address, actors: &[&ProcessFixture]) -> Self {
        self.with_but(address, actors, |member| member.socket.uid = uid)
    }

    pub(super) fn in_state(
        self,
        state: SocketState,
        address: Address,
        actors: &[&ProcessFixture],
    ) -> Self {
        self.with_but(address, actors, |member| member.socket.state = state)
    }

    pub(super) fn with_but(
        mut self,
        address: Address,
        actors: &[&ProcessFixture],
        change: impl FnOnce(&mut Member),
    ) -> Self {
        let inode = self.facts.members.len() as u64 + 1;
        let mut member = Member::new(Socket {
            backlog: 128,
            cookie: inode,
            ..Socket::new(address, inode, 1000)
        });
        member.processes = actors.iter().map(|actor| actor.process.clone()).collect();
        change(&mut member);
        self.facts.members.push(member);
        for actor in actors {
            self.facts.evidence.insert(actor.process.pid, actor.trace.clone());
        }
        self
    }

    pub(super) fn asked(mut self, port: u16) -> Self {
        self.facts.port = Some(port);
        self
    }

    /// Kind, severity, the inode and pid of the culprit, the inode of the victim.
    pub(super) fn found(&self) -> Vec<(&'static str, &'static str, u64, i32, u64)> {
        let tell = |finding: Finding| {
            let inode =
                |party: &Option<super::Party>| party.as_ref().map_or(0, |party| party.inode);
            let pid = finding
                .intruder
                .as_ref()
                .and_then(|party| party.process.as_ref())
                .map_or(0, |process| process.pid);
            let (culprit, victim) = (inode(&finding.intruder), inode(&finding.owner));
            (finding.kind.id(), finding.severity.name(), culprit, pid, victim)
        };
        audit(&self.facts).into_iter().map(tell).collect()
    }

    #[track_caller]
    pub(super) fn finds(&self, expected: &[(&str, &str, u64, i32, u64)]) {
        assert_eq!(self.found(), expected, "{:#?}", self.facts.members);
    }
}
