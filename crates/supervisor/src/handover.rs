//! Another program in the supervisor's place: what it is told, and what it goes on with.
//!
//! The process stays, and with it its children. Descriptors that it is to have lose CLOEXEC for the
//! moment of the exec; the rest of what we know is in a letter, a file in memory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::lifecycle::{ServingWorker, Snapshot};
use sameport_policy::model::{Address, Protocol};
use sameport_sys::fd::inherit;
use sameport_sys::process;
use sameport_sys::process::startup::StartupState;
use serde::{Deserialize, Serialize};

use crate::control::{InheritedControlSocket, RunInfo};
use crate::plan::PROGRAM;
use crate::termination::SIGKILL;

/// The variable with the letter's descriptor.
pub const HANDOVER_FD: &str = "SAMEPORT_HANDOVER_FD";

/// Both programs must speak the same.
pub(crate) const VERSION: u32 = 1;

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the next program must know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HandoverState {
    pub version: u32,
    pub about: RunInfo,
    pub door: InheritedControlSocket,
    pub commands: Vec<Vec<OsString>>,
    pub workers: Vec<HandoverWorker>,
    pub sockets: Vec<HandoverSocket>,
    /// Of each TCP group, the inodes in the kernel's order.
    pub groups: Vec<Vec<u64>>,
    pub copies: u16,
    pub last_start: InstanceId,
    /// The clock that all times are on.
    pub clock: Duration,
    pub blocked: Vec<i32>,
    pub record: u8,
    pub descriptors: Option<u64>,
}

/// A worker that serves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HandoverWorker {
    pub ordinal: u16,
    pub start: InstanceId,
    pub pid: i32,
    pub detached: bool,
    /// Where its binds are asked about.
    pub listener: RawFd,
    command: usize,
    since: Duration,
    restarts: u32,
    addresses: Vec<String>,
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
    #[serde(default)]
    pub older: SocketHistory,
}

/// What is to be known of a socket that is, or may become, older than its workers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SocketHistory {
    /// All workers share it: whether they find it open, and whether a socket unit has it too.
    pub common: Option<(bool, bool)>,
    /// Under which name the service manager keeps it.
    pub kept: Option<String>,
    /// The order of its group is not known.
    pub unordered: bool,
}

impl HandoverSocket {
    pub(crate) fn new(
        descriptor: RawFd,
        address: &Address,
        users: Vec<InstanceId>,
        older: SocketHistory,
    ) -> Self {
        Self {
            descriptor,
            tcp: address.protocol == Protocol::Tcp,
            at: address.socket,
            device: address.device.clone(),
            v6only: address.v6only,
            users,
            older,
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

/// First processes, as the supervisor knows them: pid, and whether they have left daemons.
pub(crate) type FirstProcesses = BTreeMap<InstanceId, (i32, bool)>;

/// The workers, for a letter; `None` if one of them is not known by all.
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
        })
    };
    serving.iter().map(worker).collect()
}

impl HandoverState {
    /// What the workers' life was.
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
        Snapshot { copies: self.copies, last_instance: self.last_start, workers }
    }

    /// What the first program was started with.
    pub(crate) fn inherited(&self) -> StartupState {
        let (record, descriptors) = (self.record, self.descriptors);
        StartupState { blocked: self.blocked.clone(), record, descriptors }
    }

    /// As a file in memory.
    pub(crate) fn write(&self) -> io::Result<OwnedFd> {
        inherit::memory_file(&serde_json::to_vec(self)?)
    }

    /// The letter that was passed to us.
    pub(crate) fn read(descriptor: RawFd) -> io::Result<Self> {
        let bytes = inherit::read_memory_file(descriptor)?;
        let letter: Self = serde_json::from_slice(&bytes)?;
        match letter.version {
            VERSION => Ok(letter),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it is of another version")),
        }
    }
}

/// The file that is to be executed: this one, or what was installed in our place since we started.
pub(crate) fn program(asked: Option<OsString>) -> PathBuf {
    asked.map_or_else(
        || {
            let ours = std::env::current_exe().unwrap_or_default().into_os_string();
            let ours = ours.to_string_lossy();
            PathBuf::from(ours.strip_suffix(" (deleted)").unwrap_or(&ours))
        },
        PathBuf::from,
    )
}

/// Whether it is a sameport that starts at all: it could not tell us afterwards.
pub(crate) fn refuse_what_is_none(program: &Path) -> Result<(), String> {
    let shown = program.display();
    let mut child = Command::new(program)
        .arg("--version")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{shown}: {error}"))?;
    let until = Instant::now() + PATIENCE;
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if Instant::now() > until {
            // Ours, and waited for with all others; so is what it has started.
            let _ = process::signal_group(child.id().cast_signed(), SIGKILL);
            return Err(format!("{shown} does not say its version"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        // What is no text is not ours.
        let _ = io::Read::read_to_string(&mut stdout, &mut said);
    }
    match said.split(" ").next() == Some(PROGRAM) {
        true => Ok(()),
        false => Err(format!("{shown} is no sameport")),
    }
}
