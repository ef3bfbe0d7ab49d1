//! The class of a holder.

use std::ffi::OsString;

use super::container::{ContainerName, proxy_container};
use super::model::{
    ConnectionEnd, Holder, HolderClass, HolderFacts, Keeper, Manager, ProcessFacts, RunWorker,
    Unit, UnitFacts, UnitOfHolder,
};
use super::supervision::{is_shell, manager_of, supervision};
use crate::membership::run_line::RunLine;
use crate::model::name::RunName;
use crate::model::unit::{container, unit};
use crate::model::{Member, Process, Protocol, Socket, SocketState};

/// The limit of ancestors that are followed: a parent can change while they are read.
pub const MOST_ANCESTORS: usize = 256;

/// Classifies the holder of a socket. `all` are the sockets on its port: a connection whose listener is
/// among them was accepted.
#[must_use]
pub fn classify(member: &Member, all: &[&Member], facts: &HolderFacts) -> Holder {
    let socket = &member.socket;
    // A listing without details has the names of its processes only.
    let with_details = |process: &'_ Process| match facts.processes.get(&process.pid) {
        Some(known) if process.details.is_none() => known.process.clone(),
        _ => process.clone(),
    };
    let processes: Vec<Process> = member.processes.iter().map(with_details).collect();
    let keepers: Vec<Keeper> =
        processes.iter().filter_map(|process| keeper(process, member, facts)).collect();
    let is_kept_by = |process: &&Process| keepers.iter().any(|keeper| keeper.pid() == process.pid);
    let mut servers: Vec<&Process> =
        processes.iter().filter(|process| !is_kept_by(process)).collect();
    // The ancestor of the others first: ending it ends its workers.
    servers.sort_by_key(|process| {
        let above = facts.ancestors(process.pid);
        let depth = servers_above(&above, &member.processes);
        (depth, process.pid)
    });
    let process = servers.first().map(|process| (*process).clone());
    let class = match &process {
        Some(process) => class_of(process, facts),
        None => class_without_server(&keepers, socket, facts),
    };
    Holder {
        unit: process.as_ref().and_then(|process| facts.unit_of_holder(process, &class)),
        class,
        others: servers.iter().skip(1).map(|process| (*process).clone()).collect(),
        process,
        keepers,
        connection: connection(socket, all, facts),
        peer_closed: socket.peer_closed,
        peer: socket.peer,
        uid: Some(socket.uid),
        user: member.user.clone(),
    }
}

/// Whether the names of the holders do not suffice for the class: a service manager, a supervisor or a program
/// that forwards ports has the socket open.
#[must_use]
pub fn needs_facts(member: &Member) -> bool {
    let is_known = |process: &Process| {
        matches!(process.program.as_str(), "systemd" | "init" | "sameport")
            || proxy_container(process).is_some()
    };
    member.processes.iter().any(is_known)
}

/// The holders of these sockets, in their order.
#[must_use]
pub fn classify_all(members: &[Member], facts: &HolderFacts) -> Vec<Holder> {
    let waiting = |member: &&Member| member.socket.state == SocketState::Waiting;
    let waiting: Vec<&Member> = members.iter().filter(waiting).collect();
    members.iter().map(|member| classify(member, &waiting, facts)).collect()
}

/// The holder of a connection in TIME_WAIT.
#[must_use]
pub fn time_wait(peer: Option<std::net::SocketAddr>) -> Holder {
    Holder {
        class: HolderClass::TimeWait,
        process: None,
        others: Vec::new(),
        keepers: Vec::new(),
        unit: None,
        connection: None,
        peer_closed: false,
        peer,
        uid: None,
        user: None,
    }
}

/// The number of ancestors that hold the socket as well.
fn servers_above(above: &[&ProcessFacts], holders: &[Process]) -> usize {
    let holds = |it: &&&ProcessFacts| holders.iter().any(|holder| holder.pid == it.process.pid);
    above.iter().filter(holds).count()
}

impl HolderFacts {
    /// The known ancestors of a process, parent first.
    #[must_use]
    pub fn ancestors(&self, pid: i32) -> Vec<&ProcessFacts> {
        let parent = |pid: i32| {
            let details = self.processes.get(&pid)?.process.details.as_ref()?;
            self.processes.get(&details.parent?)
        };
        let up = |it: &&ProcessFacts| parent(it.process.pid);
        std::iter::successors(parent(pid), up).take(MOST_ANCESTORS).collect()
    }

    /// The facts about a unit.
    pub(super) fn unit(&self, unit: &Unit) -> Option<&UnitFacts> {
        self.units.iter().find(|facts| facts.unit == *unit)
    }

    fn unit_of_holder(&self, process: &Process, class: &HolderClass) -> Option<UnitOfHolder> {
        if matches!(class, HolderClass::Container(_)) {
            return None;
        }
        let pid = class.supervisor().unwrap_or(process.pid);
        let of_supervisor = self.processes.get(&pid).map(|facts| &facts.process);
        let unit = unit_of(cgroup(of_supervisor.unwrap_or(process))?)?;
        Some(UnitOfHolder { facts: self.unit(&unit).cloned(), unit })
    }
}

fn cgroup(process: &Process) -> Option<&str> {
    process.details.as_ref()?.cgroup.as_deref()
}

/// The service of a cgroup. Sessions and scopes are left out: any program can be started in them, and
/// nothing starts it again. The programs of a container belong to no unit of this machine.
#[must_use]
pub fn unit_of(cgroup: &str) -> Option<Unit> {
    if container(cgroup).is_some() {
        return None;
    }
    // `user@UID.service`, the user's service manager, contains all programs of the user.
    let name = unit(cgroup)?;
    let is_service = name.ends_with(".service") && user_of_manager(name).is_none();
    is_service.then(|| Unit { manager: manager_of_cgroup(cgroup), name: name.to_owned() })
}

/// The manager of the units in a cgroup.
pub(super) fn manager_of_cgroup(cgroup: &str) -> Manager {
    cgroup.split('/').find_map(user_of_manager).map_or(Manager::System, Manager::User)
}

/// `user@1000.service` → 1000.
fn user_of_manager(unit: &str) -> Option<u32> {
    unit.strip_prefix("user@")?.strip_suffix(".service")?.parse().ok()
}

/// The process as a keeper of this socket; `None` if it serves the socket.
fn keeper(process: &Process, member: &Member, facts: &HolderFacts) -> Option<Keeper> {
    let pid = process.pid;
    if let Some(manager) = manager_of(process) {
        return Some(Keeper::Manager { manager, pid, unit: kept_unit(manager, member, facts) });
    }
    let name = supervised_run(facts.processes.get(&pid)?)??;
    Some(Keeper::Supervisor { pid, name })
}

/// The unit for which a manager keeps this socket: the socket unit that has the address, else the unit in
/// whose cgroup the socket was created. systemd opens the sockets of a socket unit there
/// (`socket_address_listen_in_cgroup`), if the kernel can filter by cgroup.
fn kept_unit(manager: Manager, member: &Member, facts: &HolderFacts) -> Option<String> {
    let socket = &member.socket;
    let is_stream = socket.address.protocol == Protocol::Tcp;
    let listens = |unit: &&UnitFacts| {
        unit.unit.manager == manager
            && unit
                .listens
                .iter()
                .any(|listen| listen.stream == is_stream && listen.address == socket.address.socket)
    };
    let by_address = facts.units.iter().find(listens).map(|unit| unit.unit.name.as_str());
    let by_cgroup = || {
        let cgroup = member.cgroup.as_deref().filter(|path| manager_of_cgroup(path) == manager)?;
        let name = cgroup.rsplit('/').find(|part| {
            part.ends_with(".socket") || unit_of(cgroup).is_some_and(|unit| unit.name == **part)
        });
        name.filter(|_| container(cgroup).is_none())
    };
    by_address.or_else(by_cgroup).map(str::to_owned)
}

/// Whether the process is the supervisor of a run; inside, the name of the run, if it has one.
fn supervised_run(facts: &ProcessFacts) -> Option<Option<RunName>> {
    if !facts.is_sameport {
        return None;
    }
    let command = &facts.process.details.as_ref()?.command;
    let words: Vec<OsString> = command.iter().map(OsString::from).collect();
    RunLine::read(&words).map(|line| line.name)
}

fn class_of(process: &Process, facts: &HolderFacts) -> HolderClass {
    let own = facts.processes.get(&process.pid);
    let above = facts.ancestors(process.pid);
    let worker = own.and_then(|own| own.worker);
    let line = [process.pid].into_iter().chain(above.iter().map(|it| it.process.pid));
    if let Some(of) = line.into_iter().find_map(|pid| facts.abandoned.get(&pid)) {
        let uid = process.details.as_ref().and_then(|details| details.uid);
        return HolderClass::Run { of: of.clone(), supervisor: None, uid };
    }
    if let Some((supervisor, name)) =
        above.iter().find_map(|it| Some((it.process.pid, supervised_run(it)?)))
    {
        return match name {
            Some(name) => HolderClass::Run {
                of: RunWorker { name, worker },
                supervisor: Some(supervisor),
                uid: facts.user_of(supervisor),
            },
            None => HolderClass::PlainRun { supervisor },
        };
    }
    if let Some(container) = proxy_container(process) {
        return HolderClass::ContainerProxy(container);
    }
    if let Some(container) = cgroup(process).and_then(container_of) {
        return HolderClass::Container(container);
    }
    let unit = cgroup(process).and_then(unit_of);
    if let Some(unit) = unit {
        let stops = facts.unit(&unit).is_none_or(|it| it.stops_all || it.main_pid == process.pid);
        if stops {
            return HolderClass::UnitProcess(unit);
        }
    }
    if let Some((parent, by)) = own.and_then(|own| supervision(own, &above)) {
        let task = [own].into_iter().flatten().chain(above.iter().copied());
        let task =
            task.take_while(|it| it.process.pid != parent.pid).find_map(|it| it.task.clone());
        return HolderClass::SupervisedChild { parent, by, task };
    }
    let adopts = |parent: &Process| match parent.pid {
        // In a container, the shell from which the process was started.
        1 => !is_shell(parent),
        _ => manager_of(parent).is_some(),
    };
    match above.first().is_some_and(|parent| adopts(&parent.process)) {
        true => HolderClass::Orphan,
        false => HolderClass::Program,
    }
}

impl HolderFacts {
    fn user_of(&self, pid: i32) -> Option<u32> {
        self.processes.get(&pid)?.process.details.as_ref()?.uid
    }
}

/// The container of a cgroup.
fn container_of(cgroup: &str) -> Option<ContainerName> {
    container(cgroup).map(|container| ContainerName::known(container.engine, container.id))
}

/// The class of a socket that no process serves.
fn class_without_server(keepers: &[Keeper], socket: &Socket, facts: &HolderFacts) -> HolderClass {
    match keepers.first() {
        Some(Keeper::Manager { manager, unit, .. }) => {
            HolderClass::ServiceManager { manager: *manager, unit: unit.clone() }
        }
        Some(Keeper::Supervisor { pid, name }) => HolderClass::Run {
            of: RunWorker { name: name.clone(), worker: None },
            supervisor: Some(*pid),
            uid: facts.user_of(*pid),
        },
        None if socket.inode == 0 => HolderClass::Kernel,
        None => HolderClass::Unseen,
    }
}

impl Keeper {
    /// The process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        match self {
            Self::Manager { pid, .. } | Self::Supervisor { pid, .. } => *pid,
        }
    }
}

fn connection(socket: &Socket, all: &[&Member], facts: &HolderFacts) -> Option<ConnectionEnd> {
    if socket.state != SocketState::Connected {
        return None;
    }
    let accepts = |other: &&&Member| {
        other.socket.state == SocketState::Waiting && other.socket.address.overlaps(&socket.address)
    };
    Some(match all.iter().any(|other| accepts(&other)) {
        true => ConnectionEnd::Accepted,
        false if facts.ephemeral_ports.contains(&socket.address.port()) => ConnectionEnd::Outgoing,
        false => ConnectionEnd::Either,
    })
}
