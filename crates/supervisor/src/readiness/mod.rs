//! Readiness checks.
//!
//! A worker shares its address with others. A probe's connection comes from a client port that the
//! kernel steers to the worker under test.

mod attempt;
mod connection;
mod http;
mod probe;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use sameport_policy::addr::{PortSpec, Protocol};
use sameport_policy::bind::each;
use sameport_policy::bind::verdict::SharedPort;
use sameport_policy::lifecycle::InstanceId;
use sameport_policy::lifecycle::exit::Exit;
use sameport_policy::readiness::HttpTarget;
use sameport_sys::process;
use sameport_sys::process::SpawnOptions;
use sameport_sys::systemd::{NotifyInbox, NotifySocket};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::error::RunError;
use crate::launch::LaunchOptions;
use crate::plan::{ReadyCheck, ReadyOptions};
use crate::pool::SocketPool;
use crate::termination::SIGKILL;
use crate::workers::Workers;
use probe::ReadinessProbe;
use worker::CommandResult;
use worker::ProbeResult;
pub(crate) use worker::{CheckCommand, CheckedWorker};

/// Capacity of the channels from the probes.
const QUEUE: usize = 64;

/// A message of a readiness check.
#[derive(Debug)]
pub(crate) enum ReadinessEvent {
    /// The worker passed its check.
    Ready(InstanceId),
    /// The check has this result, and goes on.
    NotYet(InstanceId, String),
    /// A probe needs a command to be run.
    Command(CheckCommand),
    /// NOTIFY_SOCKET has messages.
    Notification,
}

/// The readiness checks of all workers.
#[derive(Debug)]
pub(crate) struct Readiness {
    check: ReadyCheck,
    /// The addresses that every worker must listen on.
    expect: Vec<PortSpec>,
    /// The addresses of each worker in the last run.
    last_run: BTreeMap<u16, BTreeSet<String>>,
    probes: BTreeMap<InstanceId, JoinHandle<()>>,
    results: (mpsc::Sender<ProbeResult>, mpsc::Receiver<ProbeResult>),
    commands: (mpsc::Sender<CheckCommand>, mpsc::Receiver<CheckCommand>),
    /// Commands that run, by pid.
    running: BTreeMap<i32, oneshot::Sender<CommandResult>>,
    /// NOTIFY_SOCKET of the workers (`--ready notify`).
    socket: Option<AsyncFd<NotifyInbox>>,
    /// Workers that sent READY=1.
    notified: BTreeSet<InstanceId>,
    /// Workers that must send READY=1.
    awaited: BTreeSet<InstanceId>,
}

impl Readiness {
    /// To be called within a tokio runtime.
    pub(crate) fn new(options: &ReadyOptions) -> Result<Self, RunError> {
        let ReadyOptions { check, expect } = options.clone();
        let socket = (check == ReadyCheck::Notify)
            .then(|| NotifyInbox::start(NotifySocket::open()?)?.into_async())
            .transpose()
            .map_err(|error| RunError::System("open NOTIFY_SOCKET", error))?;
        Ok(Self {
            check,
            expect,
            last_run: BTreeMap::new(),
            probes: BTreeMap::new(),
            results: mpsc::channel(QUEUE),
            commands: mpsc::channel(QUEUE),
            running: BTreeMap::new(),
            socket,
            notified: BTreeSet::new(),
            awaited: BTreeSet::new(),
        })
    }

    /// Sets the addresses of each worker in the last run, as the lifecycle knows them.
    pub(crate) fn set_last_run(&mut self, addresses: BTreeMap<u16, BTreeSet<String>>) {
        self.last_run = addresses;
    }

    /// Waits for the next message. Cancel safe.
    pub(crate) async fn next(&mut self) -> ReadinessEvent {
        tokio::select! {
            biased;
            Some((start, result)) = self.results.1.recv() => self.probed(start, result),
            Some(command) = self.commands.1.recv() => ReadinessEvent::Command(command),
            () = readable(self.socket.as_ref()) => ReadinessEvent::Notification,
        }
    }

    /// The workers' NOTIFY_SOCKET. The supervisor's own is not for them.
    pub(crate) fn notify_socket(&self) -> Option<&OsStr> {
        self.socket.as_ref().map(|socket| socket.get_ref().name())
    }

    fn probed(&mut self, start: InstanceId, result: Result<(), String>) -> ReadinessEvent {
        match result {
            Ok(()) if self.check == ReadyCheck::Notify => {
                self.awaited.insert(start);
                ReadinessEvent::NotYet(start, "no READY=1 on NOTIFY_SOCKET".into())
            }
            Ok(()) => ReadinessEvent::Ready(start),
            Err(why) => ReadinessEvent::NotYet(start, why),
        }
    }

    /// Starts to check a worker, until it is ready or removed.
    ///
    /// `each`: the ports that differ from worker to worker.
    pub(crate) fn start(&mut self, worker: CheckedWorker, each: &[SharedPort], pool: &SocketPool) {
        let CheckedWorker { start, ordinal, .. } = worker;
        let own_port = |protocol, port: &mut u16| {
            *port = each::own_port(each, protocol, *port, ordinal);
        };
        let (mut check, mut expect) = (self.check.clone(), self.expect.clone());
        expect.iter_mut().for_each(|spec| own_port(spec.protocol, &mut spec.addr.port));
        if let ReadyCheck::Http(HttpTarget { port: Some(port), .. }) = &mut check {
            own_port(Some(Protocol::Tcp), port);
        }
        let probe = ReadinessProbe {
            worker,
            check,
            expect,
            last_run: self.last_run.get(&ordinal).cloned().unwrap_or_default(),
            pool: pool.clone(),
            commands: self.commands.0.clone(),
            results: self.results.0.clone(),
        };
        self.probes.insert(start, tokio::spawn(probe.run()));
    }

    /// Whether an awaited worker has sent READY=1.
    pub(crate) fn has_notified(&self) -> bool {
        !self.awaited.is_disjoint(&self.notified)
    }

    /// Reads NOTIFY_SOCKET, and takes the awaited workers that have sent READY=1.
    pub(crate) fn take_notified(&mut self, workers: &Workers) -> Vec<InstanceId> {
        let Some(socket) = &mut self.socket else { return Vec::new() };
        for message in socket.get_mut().take() {
            let mut senders = workers.first.iter();
            let sender = senders.find(|(_, first)| message.ancestry.contains(&first.pid));
            if let Some((start, _)) = sender.filter(|_| message.state.ready) {
                self.notified.insert(*start);
            }
        }
        let ready: Vec<_> = self.awaited.intersection(&self.notified).copied().collect();
        self.awaited.retain(|start| !ready.contains(start));
        ready
    }

    /// Runs a command of a check, as the worker's own command is run. `private`: whether the run has
    /// CAP_CHOWN, which is not for the command.
    pub(crate) fn run_command(
        &mut self,
        check: CheckCommand,
        private: bool,
        launch: &LaunchOptions,
    ) {
        let CheckCommand { command, pid, ended } = check;
        let mut options =
            SpawnOptions { own_group: true, drop_chown: private, ..SpawnOptions::default() };
        launch.apply(&mut options);
        options.environment.push(("SAMEPORT_PID".into(), Some(pid.to_string().into())));
        match process::spawn(&["sh".into(), "-c".into(), command], &options) {
            Ok(shell) => drop(self.running.insert(shell.pid, ended)),
            // The attempt may have timed out.
            Err(error) => drop(ended.send(Err(error.to_string()))),
        }
    }

    /// Whether this process is a command of a check.
    pub(crate) fn is_command(&self, pid: i32) -> bool {
        self.running.contains_key(&pid)
    }

    pub(crate) fn has_commands(&self) -> bool {
        !self.running.is_empty()
    }

    /// Takes the end of a process; `false` if it is not a command of a check.
    pub(crate) fn command_ended(&mut self, pid: i32, exit: Exit) -> bool {
        let Some(ended) = self.running.remove(&pid) else { return false };
        // The attempt may have timed out.
        let _ = ended.send(Ok(exit));
        true
    }

    /// Kills commands whose attempt timed out.
    pub(crate) fn kill_abandoned(&self) {
        for (pid, _) in self.running.iter().filter(|(_, ended)| ended.is_closed()) {
            let _ = process::signal(*pid, SIGKILL);
        }
    }

    /// Ends the check of a worker.
    pub(crate) fn remove(&mut self, start: InstanceId) {
        if let Some(task) = self.probes.remove(&start) {
            task.abort();
        }
        self.notified.remove(&start);
        self.awaited.remove(&start);
    }
}

/// Waits for a message; for ever without a socket.
async fn readable(socket: Option<&AsyncFd<NotifyInbox>>) {
    match socket {
        Some(socket) => match socket.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
