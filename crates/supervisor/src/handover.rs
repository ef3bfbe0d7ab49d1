//! The state that a supervisor passes to the program that it executes in its place.
//!
//! The process stays, and so do its children. Descriptors lose CLOEXEC for the `exec`; everything else
//! goes as JSON into a memory file (memfd_create(2)).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use sameport_policy::lifecycle::{Canary, CanarySnapshot, InstanceId, ServingWorker, Snapshot};
use sameport_policy::model::{Address, Protocol};
use sameport_policy::traffic::CanaryShare;
use sameport_sys::fd::inherit;
use sameport_sys::process::startup::StartupState;
use serde::{Deserialize, Serialize};

use crate::control::counters::RunCounters;
use crate::control::protocol::{PortRules, TrafficPort, WorkerChoice};
use crate::control::{InheritedControlSocket, RunInfo};
use crate::launch::LaunchOptions;
use crate::output::HandoverOutput;
use crate::workers::WorkerCommand;

/// The names of the environment variable with the number of the memory file's descriptor. Earlier builds
/// know the second name only. Both are set and read, so that `reexec` works between the builds.
pub const HANDOVER_FD: [&str; 2] = ["SAMEPORT_HANDOVER_FD", "SAMEPORT_LETTER"];

/// The environment variable of a supervisor in the background, which has no terminal to write to. It stays through
/// `reexec`; workers do not get it.
pub const DETACHED: &str = "SAMEPORT_DETACHED";

/// The environment variable with the number of the descriptor on which a supervisor reports its start to the
/// process that started it.
pub const START_FD: &str = "SAMEPORT_START_FD";

/// The variables of a supervisor that its workers do not get.
pub(crate) const OWN_VARIABLES: [&str; 4] = [HANDOVER_FD[0], HANDOVER_FD[1], DETACHED, START_FD];

/// Version of the state. Both programs must have the same.
pub(crate) const VERSION: u32 = 1;

/// Everything that the next program needs. The names in the JSON are fixed: programs of different
/// releases exchange it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HandoverState {
    pub version: u32,
    #[serde(rename = "about")]
    pub info: RunInfo,
    #[serde(rename = "door")]
    pub control: InheritedControlSocket,
    pub commands: Vec<Vec<OsString>>,
    /// How each command is executed. Earlier builds do not write it.
    #[serde(default)]
    pub launches: Vec<HandoverLaunch>,
    pub workers: Vec<HandoverWorker>,
    pub sockets: Vec<HandoverSocket>,
    /// The inodes of each TCP group, in the kernel's order.
    pub groups: Vec<Vec<u64>>,
    /// The policies of single ports. Earlier builds do not write it.
    #[serde(default)]
    pub traffic: HandoverTraffic,
    #[serde(flatten)]
    pub lifecycle: HandoverLifecycle,
    /// Time since the beginning of the run.
    pub clock: Duration,
    #[serde(flatten)]
    pub startup: StartupRecord,
}

/// The state of the lifecycle without its workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HandoverLifecycle {
    pub copies: u16,
    pub last_start: InstanceId,
    /// The commands, by index, whose workers finish their connections after the stop signal. Earlier
    /// builds do not write it.
    #[serde(default)]
    pub self_draining: Vec<usize>,
    /// The canary. Earlier builds do not write it, and end its workers.
    #[serde(default)]
    pub canary: Option<HandoverCanary>,
    /// The log writer and its pipes. Earlier builds do not write it.
    #[serde(default)]
    pub output: Option<HandoverOutput>,
    /// What the run has counted. Earlier builds do not write it.
    #[serde(default)]
    pub counters: RunCounters,
    /// The change of the options for which the program is executed. Earlier builds do not write it.
    #[serde(default)]
    pub change: Option<HandoverChange>,
}

/// A change of the options of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct HandoverChange {
    pub workers: WorkerChoice,
    /// The options to go back to, if the new workers do not become ready.
    pub before: Option<SupervisorLine>,
    /// Why these are the options of before again.
    pub undone: Option<String>,
    /// Whether ports had rules, which those of the new options replace.
    #[serde(default)]
    pub had_rules: bool,
}

/// How a supervisor was executed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SupervisorLine {
    #[serde(with = "crate::control::os_string_serde")]
    pub arguments: Vec<OsString>,
    pub directory: OsString,
    pub environment: Vec<(OsString, OsString)>,
    /// The policies of single ports, which requests have set.
    #[serde(default)]
    pub rules: Vec<PortRules>,
}

/// A canary whose workers serve.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HandoverCanary {
    pub command: usize,
    pub share: CanaryShare,
    /// On the clock of the run.
    pub since: Option<Duration>,
    pub promotes_after: Option<Duration>,
    pub workers: Vec<HandoverWorker>,
}

/// The policies of single ports.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct HandoverTraffic {
    pub rules: Vec<PortRules>,
    /// Workers that get no new connections on a port.
    pub drained: Vec<(TrafficPort, InstanceId)>,
}

/// The part of the launch options that an upgrade can change.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HandoverLaunch {
    directory: Option<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl From<&LaunchOptions> for HandoverLaunch {
    fn from(launch: &LaunchOptions) -> Self {
        let LaunchOptions { directory, environment, user: _ } = launch.clone();
        Self { directory: directory.map(Into::into), environment }
    }
}

/// The process attributes that the first program was started with: workers get them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StartupRecord {
    /// Blocked signals.
    pub blocked: Vec<i32>,
    /// Bits of [`StartupState`].
    pub record: u8,
    /// The descriptor limit.
    pub descriptors: Option<u64>,
}

/// A worker that serves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HandoverWorker {
    pub ordinal: u16,
    pub start: InstanceId,
    pub pid: i32,
    pub detached: bool,
    /// The descriptor of its seccomp listener.
    pub listener: RawFd,
    command: usize,
    since: Duration,
    restarts: u32,
    addresses: Vec<String>,
    /// Whether it has restricted itself (Landlock).
    #[serde(default)]
    pub restricted: bool,
}

/// A held socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HandoverSocket {
    pub descriptor: RawFd,
    tcp: bool,
    at: SocketAddr,
    device: Option<String>,
    v6only: bool,
    pub users: Vec<InstanceId>,
    #[serde(default, rename = "older")]
    pub history: SocketHistory,
}

/// Properties of a socket that is older than its workers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SocketHistory {
    /// For a socket that all workers share: whether workers inherit it, and whether a socket unit has it
    /// too.
    #[serde(rename = "common")]
    pub shared: Option<(bool, bool)>,
    /// Its name in the service manager's store.
    #[serde(rename = "kept")]
    pub stored: Option<String>,
    /// Whether the order of its group is unknown.
    pub unordered: bool,
}

impl HandoverSocket {
    pub(crate) fn new(
        descriptor: RawFd,
        address: &Address,
        users: Vec<InstanceId>,
        history: SocketHistory,
    ) -> Self {
        Self {
            descriptor,
            tcp: address.protocol == Protocol::Tcp,
            at: address.socket,
            device: address.device.clone(),
            v6only: address.v6only,
            users,
            history,
        }
    }

    pub(crate) fn address(&self) -> Address {
        Address {
            protocol: if self.tcp { Protocol::Tcp } else { Protocol::Udp },
            socket: self.at,
            device: self.device.clone(),
            v6only: self.v6only,
        }
    }
}

/// The pid of each first process, and whether it has ended and left daemons.
pub(crate) type FirstProcesses = BTreeMap<InstanceId, (i32, bool)>;

/// Joins what the lifecycle and the supervisor know of the workers; `None` if a worker lacks a process
/// or a listener.
pub(crate) fn workers(
    serving: &[ServingWorker],
    processes: &FirstProcesses,
    listeners: &BTreeMap<InstanceId, RawFd>,
) -> Option<Vec<HandoverWorker>> {
    let worker = |serving: &ServingWorker| {
        let (pid, detached) = *processes.get(&serving.instance)?;
        Some(HandoverWorker {
            ordinal: serving.ordinal,
            start: serving.instance,
            pid,
            detached,
            listener: *listeners.get(&serving.instance)?,
            command: serving.command,
            since: serving.since,
            restarts: serving.restarts,
            addresses: serving.addresses.clone(),
            restricted: false,
        })
    };
    serving.iter().map(worker).collect()
}

impl HandoverState {
    /// The lifecycle's part.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let serving = |worker: &HandoverWorker| ServingWorker {
            ordinal: worker.ordinal,
            instance: worker.start,
            command: worker.command,
            since: worker.since,
            restarts: worker.restarts,
            addresses: worker.addresses.clone(),
        };
        let workers = self.workers.iter().map(serving).collect();
        let canary = self.lifecycle.canary.as_ref().map(|canary| CanarySnapshot {
            canary: Canary {
                command: canary.command,
                share: canary.share,
                since: canary.since,
                promotes_after: canary.promotes_after,
            },
            workers: canary.workers.iter().map(serving).collect(),
        });
        Snapshot {
            copies: self.lifecycle.copies,
            last_instance: self.lifecycle.last_start,
            workers,
            canary,
            self_draining: self.lifecycle.self_draining.iter().copied().collect(),
        }
    }

    /// Takes the commands. `run`: the launch options of the command line, with the user of all.
    pub(crate) fn take_commands(&mut self, run: &LaunchOptions) -> Vec<WorkerCommand> {
        let launches = std::mem::take(&mut self.launches).into_iter().map(|launch| {
            let HandoverLaunch { directory, environment } = launch;
            let user = run.user.clone();
            LaunchOptions { user, directory: directory.map(Into::into), environment }
        });
        let launches = launches.chain(std::iter::repeat(run.clone()));
        let commands = std::mem::take(&mut self.commands).into_iter();
        commands.zip(launches).map(|(words, launch)| WorkerCommand { words, launch }).collect()
    }

    pub(crate) fn startup_state(&self) -> StartupState {
        let StartupRecord { blocked, record, descriptors } = self.startup.clone();
        StartupState { blocked, record, descriptors }
    }

    /// Writes the state to a memory file.
    pub(crate) fn write(&self) -> io::Result<OwnedFd> {
        inherit::memory_file(&serde_json::to_vec(self)?)
    }

    /// Reads the state from the descriptor that the previous program passed.
    pub(crate) fn read(fd: RawFd) -> io::Result<Self> {
        let state: Self = serde_json::from_slice(&inherit::read_memory_file(fd)?)?;
        match state.version {
            VERSION => Ok(state),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it is of another version")),
        }
    }
}
