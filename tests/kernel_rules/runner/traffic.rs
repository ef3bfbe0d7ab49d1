//! Connections and datagrams: how many each socket receives, and what happens to queued connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{SockAddr, Socket};

use super::sockets::{CONNECT_TIMEOUT, new_socket, parse_ip};
use super::{Run, Stop};
use crate::model::{LO, Port, Send, Share};
use crate::report::StepReport;

/// Loopback delivers at once, but a busy machine delays the receiver.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(1);

/// Sends, and counts what each socket of the row receives.
pub(super) fn send(run: &Run<'_>, send: Send, share: Share) -> Result<StepReport, Stop> {
    let (ip, to) = row_address(run, send.ip)?;
    let mut clients = Vec::new();
    for _ in 0..send.count {
        if let Some(client) = send.from {
            run.member(client)?.socket.send_to(b"x", &to)?;
            continue;
        }
        let client = new_socket(run.proto, ip)?;
        if run.proto.listens() {
            connect(&client, &to)?;
        } else {
            client.send_to(b"x", &to)?;
        }
        clients.push(client);
    }
    let mut counts: Vec<(char, usize)> = Vec::new();
    // Dropped after the clients: the end that closes after a reset leaves no TIME_WAIT.
    let mut accepted = Vec::new();
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let mut total = 0;
    while total < send.count && Instant::now() < deadline {
        let mut idle = true;
        for member in run.members.iter().filter(|member| member.serves) {
            let received = if member.proto.listens() {
                member.socket.accept().map(|(connection, _)| accepted.push(connection))
            } else {
                member.socket.recv_from(&mut [std::mem::MaybeUninit::uninit(); 8]).map(|_| ())
            };
            match received {
                Ok(()) => {
                    idle = false;
                    total += 1;
                    match counts.iter_mut().find(|(name, _)| *name == member.name) {
                        Some((_, count)) => *count += 1,
                        None => counts.push((member.name, 1)),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        if idle {
            std::thread::sleep(PAUSE);
        }
    }
    drop(clients);
    drop(accepted);
    counts.sort_unstable();
    Ok(StepReport::traffic(send, share, &counts))
}

/// The port of the row on `ip`.
fn row_address(run: &Run<'_>, ip: &str) -> Result<(IpAddr, SockAddr), Stop> {
    let ip = parse_ip(ip)?;
    Ok((ip, SocketAddr::new(ip, run.environment.port(Port::Row)).into()))
}

/// Connects a client that resets on close, so that no TIME_WAIT stays on the port of the row.
fn connect(client: &Socket, to: &SockAddr) -> io::Result<()> {
    client.set_linger(Some(Duration::ZERO))?;
    client.connect_timeout(to, CONNECT_TIMEOUT)
}

/// Opens connections that stay in the accept queues.
pub(super) fn queue(run: &mut Run<'_>, count: usize) -> Result<StepReport, Stop> {
    let (ip, to) = row_address(run, LO)?;
    for _ in 0..count {
        let client = new_socket(run.proto, ip)?;
        connect(&client, &to)?;
        client.set_nonblocking(true)?;
        run.queued.push(client);
    }
    Ok(StepReport::done(format!("{count} connections queue")))
}

/// Counts the queued connections that were reset, and accepts all others.
pub(super) fn count_resets(run: &Run<'_>, expect_resets: bool) -> Result<StepReport, Stop> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let total = run.queued.len();
    let mut accepted = Vec::new();
    let mut resets = 0;
    while Instant::now() < deadline && resets + accepted.len() < total {
        resets = run.queued.iter().filter(|client| is_reset(client)).count();
        for member in run.members.iter().filter(|member| member.serves) {
            while let Ok((connection, _)) = member.socket.accept() {
                accepted.push(connection);
            }
        }
        std::thread::sleep(PAUSE);
    }
    Ok(StepReport::queue(total, expect_resets, resets, accepted.len()))
}

/// Whether the peer has reset or closed. The answer is repeatable: peers send nothing, and end of file
/// follows the error of a reset.
fn is_reset(client: &Socket) -> bool {
    match client.recv(&mut [std::mem::MaybeUninit::uninit(); 1]) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// Accepts one connection from a non-blocking listener.
pub(super) fn accept_one(listener: &Socket) -> io::Result<Socket> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        match listener.accept() {
            Ok((connection, _)) => return Ok(connection),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
