//! Readiness checks.
//!
//! A worker shares its address with others. A probe's connection comes from a client port that the
//! kernel steers to the worker under test.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::lifecycle::exit::Exit;
use sameport_sys::netlink;
use sameport_sys::process;
use sameport_sys::process::SpawnOptions;
use sameport_sys::systemd::NotifySocket;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::error::RunError;
use crate::launch::LaunchOptions;
use crate::plan::ReadyCheck;
use crate::pool::SocketPool;
use crate::termination::SIGKILL;
use crate::workers::Workers;

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Time limit of one attempt.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Capacity of the channels from the probes.
const QUEUE: usize = 64;

/// A message of a readiness check.
#[derive(Debug)]
pub(crate) enum ReadinessEvent {
    /// The worker passed its check.
    Ready(InstanceId),
    /// A probe needs a command to be run.
    Command(CheckCommand),
    /// NOTIFY_SOCKET has messages.
    Notification,
}

/// A command of a readiness check. The supervisor runs it, because it reaps all children.
#[derive(Debug)]
pub(crate) struct CheckCommand {
    command: OsString,
    /// The first process of the worker.
    pub(crate) pid: i32,
    /// Gets whether the command exited with status 0; dropped if it did not start.
    passed: oneshot::Sender<bool>,
}

/// The readiness checks of all workers.
#[derive(Debug)]
pub(crate) struct Readiness {
    check: ReadyCheck,
    probes: BTreeMap<InstanceId, JoinHandle<()>>,
    ready: (mpsc::Sender<InstanceId>, mpsc::Receiver<InstanceId>),
    commands: (mpsc::Sender<CheckCommand>, mpsc::Receiver<CheckCommand>),
    /// Commands that run, by pid.
    running: BTreeMap<i32, oneshot::Sender<bool>>,
    /// NOTIFY_SOCKET of the workers (`--ready notify`).
    socket: Option<AsyncFd<NotifySocket>>,
    /// Workers that sent READY=1.
    notified: BTreeSet<InstanceId>,
    /// Workers that must send READY=1.
    awaited: BTreeSet<InstanceId>,
}

impl Readiness {
    /// To be called within a tokio runtime.
    pub(crate) fn new(check: ReadyCheck) -> Result<Self, RunError> {
        let socket = (check == ReadyCheck::Notify)
            .then(|| NotifySocket::open().map_err(io::Error::from)?.into_async())
            .transpose()
            .map_err(|error| RunError::System("open NOTIFY_SOCKET", error))?;
        Ok(Self {
            check,
            probes: BTreeMap::new(),
            ready: mpsc::channel(QUEUE),
            commands: mpsc::channel(QUEUE),
            running: BTreeMap::new(),
            socket,
            notified: BTreeSet::new(),
            awaited: BTreeSet::new(),
        })
    }

    /// Waits for the next message. Cancel safe.
    pub(crate) async fn next(&mut self) -> ReadinessEvent {
        tokio::select! {
            biased;
            Some(start) = self.ready.1.recv() => ReadinessEvent::Ready(start),
            Some(command) = self.commands.1.recv() => ReadinessEvent::Command(command),
            () = readable(self.socket.as_ref()) => ReadinessEvent::Notification,
        }
    }

    /// The workers' NOTIFY_SOCKET. The supervisor's own is not for them.
    pub(crate) fn notify_socket(&self) -> Option<&OsStr> {
        self.socket.as_ref().map(|socket| socket.get_ref().name())
    }

    /// Starts to check a worker, until it is ready or removed.
    pub(crate) fn start(&mut self, start: InstanceId, pid: i32, pool: &SocketPool) {
        if self.check == ReadyCheck::Notify {
            self.awaited.insert(start);
            return;
        }
        let (pool, commands) = (pool.clone(), self.commands.0.clone());
        let probe = ReadinessProbe { start, pid, check: self.check.clone(), pool, commands };
        let ready = self.ready.0.clone();
        let task = tokio::spawn(async move {
            probe.until_ready().await;
            // Fails at the end of the run only.
            let _ = ready.send(start).await;
        });
        self.probes.insert(start, task);
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
        let CheckCommand { command, pid, passed } = check;
        let mut options =
            SpawnOptions { own_group: true, drop_chown: private, ..SpawnOptions::default() };
        launch.apply(&mut options);
        options.environment.push(("SAMEPORT_PID".into(), Some(pid.to_string().into())));
        if let Ok(shell) = process::spawn(&["sh".into(), "-c".into(), command], &options) {
            self.running.insert(shell.pid, passed);
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
        let Some(passed) = self.running.remove(&pid) else { return false };
        // The attempt may have timed out.
        let _ = passed.send(exit == Exit::Code(0));
        true
    }

    /// Kills commands whose attempt timed out.
    pub(crate) fn kill_abandoned(&self) {
        for (pid, _) in self.running.iter().filter(|(_, passed)| passed.is_closed()) {
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
async fn readable(socket: Option<&AsyncFd<NotifySocket>>) {
    match socket {
        Some(socket) => match socket.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// The check of one worker.
#[derive(Debug)]
struct ReadinessProbe {
    start: InstanceId,
    pid: i32,
    check: ReadyCheck,
    pool: SocketPool,
    commands: mpsc::Sender<CheckCommand>,
}

impl ReadinessProbe {
    async fn until_ready(self) {
        while timeout(ATTEMPT, self.is_ready()).await != Ok(true) {
            sleep(PAUSE).await;
        }
    }

    async fn is_ready(&self) -> bool {
        match &self.check {
            ReadyCheck::Listens | ReadyCheck::Notify => true,
            ReadyCheck::Tcp => self.accepts().await,
            ReadyCheck::Http(path) => self.answers(path).await,
            ReadyCheck::Exec(command) => {
                let (passed, result) = oneshot::channel();
                let command = CheckCommand { command: command.clone(), pid: self.pid, passed };
                self.commands.send(command).await.is_ok() && result.await == Ok(true)
            }
        }
    }

    /// Connects to this worker. Gives the connection and the address.
    async fn connect(&self) -> Option<(TcpStream, SocketAddr)> {
        let address = self.pool.tcp_address(self.start)?;
        let to = reachable(address.socket);
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.ok()?;
        let from = if to.ip().is_loopback() { loopback(to) } else { to.ip() };
        socket.bind(SocketAddr::new(from, 0)).ok()?;
        let port = socket.local_addr().ok()?.port();
        let _steering = self.pool.steer_probe(self.start, &address, port);
        let stream = socket.connect(to).await.ok()?;
        Some((stream, to))
    }

    /// Whether the worker accepts a connection. The kernel completes the handshake without it.
    async fn accepts(&self) -> bool {
        let Some((stream, to)) = self.connect().await else { return false };
        let Ok(from) = stream.local_addr() else { return false };
        loop {
            // Data or the end of the stream: the worker accepted.
            if stream.try_read(&mut [0]).is_ok() {
                return true;
            }
            if matches!(netlink::is_accepted(to.port(), from.port()), Ok(Some(true))) {
                return true;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    async fn answers(&self, path: &str) -> bool {
        let Some((mut stream, to)) = self.connect().await else { return false };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: sameport\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n"
        );
        if stream.write_all(request.as_bytes()).await.is_err() {
            return false;
        }
        // Reads the body too: many servers log an error if a client closes early.
        const MAX_RESPONSE: u64 = 1 << 20;
        let mut response = Vec::new();
        let read = stream.take(MAX_RESPONSE).read_to_end(&mut response).await;
        if read.is_err() && response.is_empty() {
            return false;
        }
        // "HTTP/1.1 204"
        response.starts_with(b"HTTP/1.")
            && response.get(8) == Some(&b' ')
            && matches!(response.get(9), Some(b'2' | b'3'))
    }
}

/// The address by which this machine reaches a listener of its own.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip().is_unspecified() {
        true => SocketAddr::new(loopback(address), address.port()),
        false => SocketAddr::new(address.ip(), address.port()),
    }
}

/// The loopback address of the same family.
fn loopback(address: SocketAddr) -> IpAddr {
    match address {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}
