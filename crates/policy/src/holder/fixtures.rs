//! Processes and sockets for the tests.

use super::classify::classify;
use super::ending::{Ending, Rights, endings};
use super::model::{Holder, HolderFacts, Manager, ProcessFacts, Task, TaskTool, Unit, UnitFacts};
use crate::model::{Address, Member, Process, ProcessDetails, Protocol, Socket};

const SESSION: &str = "/user.slice/user-1000.slice/session-3.scope";

/// A process: pid, parent, command.
pub(super) fn process(pid: i32, parent: i32, command: &[&str]) -> ProcessFacts {
    // A login shell has `-` before its name.
    let program = command[0].rsplit('/').next().unwrap_or_default().trim_start_matches('-');
    let details = ProcessDetails {
        uid: Some(1000),
        parent: Some(parent),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        executable: Some(format!("/usr/bin/{program}").into()),
        cgroup: Some(SESSION.to_owned()),
        ..ProcessDetails::default()
    };
    let program: String = program.chars().take(15).collect();
    ProcessFacts {
        is_sameport: program == "sameport",
        ..ProcessFacts::new(Process { details: Some(details), ..Process::new(pid, program) })
    }
}

impl ProcessFacts {
    pub(super) fn of_user(mut self, uid: u32) -> Self {
        self.details().uid = Some(uid);
        self
    }

    pub(super) fn in_cgroup(mut self, cgroup: &str) -> Self {
        self.details().cgroup = Some(cgroup.to_owned());
        self
    }

    pub(super) fn worker(mut self, number: u16) -> Self {
        self.worker = Some(number);
        self
    }

    pub(super) fn task(mut self, tool: TaskTool, name: &str) -> Self {
        self.task = Some(Task { tool, options: vec![], name: name.to_owned() });
        self
    }

    pub(super) fn details(&mut self) -> &mut ProcessDetails {
        self.process.details.as_mut().unwrap()
    }
}

pub(super) fn systemd() -> ProcessFacts {
    process(1, 0, &["systemd"]).of_user(0).in_cgroup("/init.scope")
}

pub(super) fn unit(name: &str, change: impl FnOnce(&mut UnitFacts)) -> UnitFacts {
    let mut facts = UnitFacts {
        unit: Unit { manager: Manager::System, name: name.to_owned() },
        main_pid: 0,
        stops_all: true,
        triggered_by: vec![],
        listens: vec![],
    };
    change(&mut facts);
    facts
}

/// A listener on 127.0.0.1:80 of these pids, among these processes.
pub(super) struct Case {
    pub(super) facts: HolderFacts,
    pub(super) member: Member,
    pub(super) beside: Vec<Member>,
}

pub(super) fn held_by(pids: &[i32], processes: Vec<ProcessFacts>) -> Case {
    let address = Address::new(Protocol::Tcp, "127.0.0.1:80".parse().unwrap());
    let mut member = Member::new(Socket::new(address, 7, 1000));
    let facts = HolderFacts {
        processes: processes.into_iter().map(|it| (it.process.pid, it)).collect(),
        ..HolderFacts::default()
    };
    let holders = pids.iter().map(|pid| facts.processes[pid].process.clone());
    member.processes = holders.collect();
    member.user = Some("ann".to_owned());
    Case { facts, member, beside: vec![] }
}

impl Case {
    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn units(self, units: Vec<UnitFacts>) -> Self {
        self.with(|case| case.facts.units = units)
    }

    pub(super) fn holder(&self) -> Holder {
        let all: Vec<&Member> = std::iter::once(&self.member).chain(&self.beside).collect();
        classify(&self.member, &all, &self.facts)
    }

    /// Compares class, description and the endings for user 1000.
    pub(super) fn is(&self, class: &str, description: &str, expected: &[(Ending, Rights)]) {
        let holder = self.holder();
        assert_eq!((holder.class.name(), &*holder.description()), (class, description));
        let steps = endings([&holder], 1000).into_iter();
        let steps: Vec<_> = steps.map(|step| (step.ending, step.rights)).collect();
        assert_eq!(steps, expected, "{description}");
    }
}
