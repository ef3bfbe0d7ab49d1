//! The facts about holders, and their classes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::container::ContainerName;
use crate::model::Process;
use crate::model::name::RunName;

/// The facts about the holders of some sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderFacts {
    /// The processes that hold sockets, with details, and their ancestors. A missing ancestor has exited
    /// or is outside the observer's pid namespace.
    pub processes: BTreeMap<i32, ProcessFacts>,
    /// Units, as their service managers report them. A manager that was not asked, or did not answer, has
    /// none here.
    pub units: Vec<UnitFacts>,
    /// Living workers of named runs whose supervisor was killed, by pid.
    pub abandoned: BTreeMap<i32, RunWorker>,
    /// `net.ipv4.ip_local_port_range`: the ports of outgoing connections.
    pub ephemeral_ports: RangeInclusive<u16>,
}

impl Default for HolderFacts {
    fn default() -> Self {
        Self {
            processes: BTreeMap::new(),
            units: Vec::new(),
            abandoned: BTreeMap::new(),
            ephemeral_ports: 32768..=60999,
        }
    }
}

/// A process, as far as its class depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessFacts {
    /// The process, with details.
    pub process: Process,
    /// Whether it executes this program, sameport.
    pub is_sameport: bool,
    /// The number of the worker of a named run, from its environment (`SAMEPORT_WORKER`).
    pub worker: Option<u16>,
    /// The name by which a process manager knows it.
    pub task: Option<Task>,
}

impl ProcessFacts {
    /// A process about which nothing else is known.
    #[must_use]
    pub fn new(process: Process) -> Self {
        Self { process, is_sameport: false, worker: None, task: None }
    }
}

/// How it is known that the parent may start its child again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervision {
    /// It is a process manager, such as supervisord.
    ProcessManager,
    /// It runs the same program: the master of pre-forked workers.
    Master,
    /// It is a shell with a loop in its command.
    Loop,
    /// It is another program, which may do so.
    Possible,
}

/// A process in the words of its process manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The tool that controls the process manager.
    pub tool: TaskTool,
    /// Options of the tool, before the verb.
    pub options: Vec<String>,
    /// The name of the task, or the directory of the service.
    pub name: String,
}

/// A tool that controls a process manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskTool {
    /// `supervisorctl stop GROUP:NAME`: supervisor.
    Supervisorctl,
    /// `sv down DIRECTORY`: runit.
    Sv,
    /// `s6-svc -d DIRECTORY`: s6.
    S6Svc,
    /// `svc -d DIRECTORY`: daemontools.
    Svc,
}

/// A worker of a named run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunWorker {
    /// The run.
    pub name: RunName,
    /// The worker's number, from 1.
    pub worker: Option<u16>,
}

/// A service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Manager {
    /// Process 1.
    System,
    /// `systemd --user` of this user.
    User(u32),
}

/// A unit of a service manager.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit {
    /// The manager.
    pub manager: Manager,
    /// The name, such as `api.service`.
    pub name: String,
}

/// A unit, as its manager reports it (`systemctl show`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFacts {
    /// The unit.
    pub unit: Unit,
    /// `MainPID`, 0 without one.
    pub main_pid: i32,
    /// Whether `systemctl stop` ends every process of the unit: `KillMode` is `control-group`.
    pub stops_all: bool,
    /// `TriggeredBy`: sockets that start it again.
    pub triggered_by: Vec<String>,
    /// `Listen` of a socket unit: the addresses with a port.
    pub listens: Vec<ListenAddress>,
}

/// One address of a socket unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// The address. `ListenStream=80` is `[::]:80`.
    pub address: SocketAddr,
    /// TCP (`ListenStream=`), not UDP (`ListenDatagram=`).
    pub stream: bool,
}

/// The class of a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HolderClass {
    /// A service manager, and no other process.
    ServiceManager {
        /// The manager.
        manager: Manager,
        /// The socket unit that opened the socket, or the service that stored it; `None` if unknown.
        unit: Option<String>,
    },
    /// A process of a service, which its manager may start again.
    UnitProcess(Unit),
    /// A program that forwards a port of the machine to a container.
    ContainerProxy(ContainerName),
    /// A process of a container, with the network of the machine.
    Container(ContainerName),
    /// A process of a named run.
    Run {
        /// The run and the worker. Without a worker, the supervisor alone keeps the socket.
        of: RunWorker,
        /// The supervisor; `None` if it was killed.
        supervisor: Option<i32>,
        /// The user of the run, who controls it.
        uid: Option<u32>,
    },
    /// A process of a run without a name, which restarts nothing.
    PlainRun {
        /// The supervisor.
        supervisor: i32,
    },
    /// The child of a program that starts it again, or may do so.
    SupervisedChild {
        /// The program.
        parent: Process,
        /// How it is known.
        by: Supervision,
        /// The name by which the program knows its child.
        task: Option<Task>,
    },
    /// A process whose parent has ended, outside of every unit.
    Orphan,
    /// Any other process.
    Program,
    /// The remains of a closed connection. No process has it open.
    TimeWait,
    /// The kernel finishes a connection, or keeps it in an accept queue, without a process.
    Kernel,
    /// The process is hidden from the observer.
    Unseen,
}

impl HolderClass {
    /// The living supervisor of the run that the process belongs to.
    #[must_use]
    pub fn supervisor(&self) -> Option<i32> {
        match self {
            Self::Run { supervisor, .. } => *supervisor,
            Self::PlainRun { supervisor } => Some(*supervisor),
            _ => None,
        }
    }

    /// The word in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::ServiceManager { .. } => "service-manager",
            Self::UnitProcess(_) => "unit",
            Self::ContainerProxy(_) => "container-proxy",
            Self::Container(_) => "container",
            Self::Run { .. } => "run",
            Self::PlainRun { .. } => "plain-run",
            Self::SupervisedChild { .. } => "supervised",
            Self::Orphan => "orphan",
            Self::Program => "program",
            Self::TimeWait => "time-wait",
            Self::Kernel => "kernel",
            Self::Unseen => "unseen",
        }
    }
}

/// A connection that uses the port. It is not a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// A client's own end: the kernel picked the port for an outgoing connection.
    Outgoing,
    /// A server's end: a listener on the port accepted it.
    Accepted,
    /// One of the two.
    Either,
}

/// A holder that does not serve the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// A service manager: it passes the socket to the next start of the unit.
    Manager {
        /// The manager.
        manager: Manager,
        /// The process.
        pid: i32,
        /// The unit, if known.
        unit: Option<String>,
    },
    /// The supervisor of a named run.
    Supervisor {
        /// The process.
        pid: i32,
        /// The run.
        name: RunName,
    },
}

/// The holder of one socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The class.
    pub class: HolderClass,
    /// The process that serves the socket: of several, the ancestor of the others, or the first one.
    pub process: Option<Process>,
    /// The other processes that serve it, by pid.
    pub others: Vec<Process>,
    /// The processes that keep it open and do not serve it.
    pub keepers: Vec<Keeper>,
    /// The unit of the process, or of its run's supervisor.
    pub unit: Option<UnitOfHolder>,
    /// The role of a connected socket.
    pub connection: Option<ConnectionEnd>,
    /// The peer has closed the connection, and the process has not (CLOSE_WAIT).
    pub peer_closed: bool,
    /// The peer of a connection.
    pub peer: Option<SocketAddr>,
    /// The owner of the socket; `None` for TIME_WAIT.
    pub uid: Option<u32>,
    /// The login name of the owner.
    pub user: Option<String>,
}

/// The unit of a process, and its facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitOfHolder {
    /// The unit.
    pub unit: Unit,
    /// What its manager reports; `None` if it does not answer.
    pub facts: Option<UnitFacts>,
}

impl Holder {
    /// The container that the socket belongs to, as far as it is known.
    #[must_use]
    pub fn container(&self) -> Option<&ContainerName> {
        match &self.class {
            HolderClass::ContainerProxy(name) | HolderClass::Container(name) => Some(name),
            _ => None,
        }
    }

    /// Whether this process has the socket in the descriptor store of a service, beside its server. It never
    /// binds the address. The service manager does bind the addresses of socket units.
    #[must_use]
    pub fn is_stored_by(&self, pid: i32) -> bool {
        let stores = |keeper: &Keeper| match keeper {
            Keeper::Manager { pid: manager, unit, .. } => {
                *manager == pid && !unit.as_deref().is_some_and(|unit| unit.ends_with(".socket"))
            }
            Keeper::Supervisor { .. } => false,
        };
        self.process.is_some() && self.keepers.iter().any(stores)
    }

    /// Every process that serves the socket, the main one first.
    pub fn servers(&self) -> impl Iterator<Item = &Process> {
        self.process.iter().chain(&self.others)
    }
}
