//! Asking a worker whether it is ready.
//!
//! It shares its address with others, so a connection that is to reach this one, and nobody else,
//! comes from a port that the kernel is told to steer to it.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use sameport_policy::lifecycle::InstanceId;
use sameport_sys::netlink;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::plan::ReadyCheck;
use crate::pool::SocketPool;

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// One worker, to be asked.
#[derive(Debug)]
pub(crate) struct ReadinessProbe {
    pub start: InstanceId,
    pub ready: ReadyCheck,
    pub held: SocketPool,
    pub pid: i32,
    pub checks: mpsc::Sender<CheckCommand>,
}

/// Where the answer of a command goes: whether it ended with 0.
pub(crate) type CheckResult = oneshot::Sender<bool>;

/// A command to be run, which our supervisor does: it sees the end of every child.
#[derive(Debug)]
pub(crate) struct CheckCommand {
    pub command: OsString,
    pub pid: i32,
    pub answer: CheckResult,
}

impl ReadinessProbe {
    /// Asks until the answer is yes. Whoever waits for it has a limit.
    pub(crate) async fn until_ready(self) {
        loop {
            if matches!(timeout(PATIENCE, self.is_ready()).await, Ok(true)) {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    async fn is_ready(&self) -> bool {
        match &self.ready {
            ReadyCheck::Listens | ReadyCheck::Notify => true,
            ReadyCheck::Tcp => self.accepts().await,
            ReadyCheck::Http(path) => self.answers(path).await,
            ReadyCheck::Exec(command) => {
                let (answer, answered) = oneshot::channel();
                let check = CheckCommand { command: command.clone(), pid: self.pid, answer };
                self.checks.send(check).await.is_ok() && answered.await == Ok(true)
            }
        }
    }

    /// A connection that reaches this worker and nobody else, and the address it went to.
    async fn connect(&self) -> Option<(TcpStream, SocketAddr)> {
        let address = self.held.tcp_address(self.start)?;
        let to = reachable(address.socket);
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.ok()?;
        let from: IpAddr =
            if to.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        if to.ip().is_loopback() {
            socket.bind(SocketAddr::new(from, 0)).ok()?;
        } else {
            socket.bind(SocketAddr::new(to.ip(), 0)).ok()?;
        }
        let port = socket.local_addr().ok()?.port();
        let _aim = self.held.steer_probe(self.start, &address, port);
        let stream = socket.connect(to).await.ok()?;
        Some((stream, to))
    }

    /// Whether it accepts. A handshake alone is the kernel's doing.
    async fn accepts(&self) -> bool {
        let Some((stream, to)) = self.connect().await else { return false };
        let Ok(from) = stream.local_addr() else { return false };
        loop {
            // Said something, or hung up: the worker had it.
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
        // All of it, within reason: many a server complains of a client that does not listen.
        const LONGEST: u64 = 1 << 20;
        let mut answer = Vec::new();
        if stream.take(LONGEST).read_to_end(&mut answer).await.is_err() && answer.is_empty() {
            return false;
        }
        // "HTTP/1.1 204"
        answer.starts_with(b"HTTP/1.")
            && answer.get(8) == Some(&b' ')
            && matches!(answer.get(9), Some(b'2' | b'3'))
    }
}

/// The address by which this machine reaches one of its own.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}
