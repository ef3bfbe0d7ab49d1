//! Connections and datagrams: who got how many, and what became of those nobody accepted.

use std::io;
use std::time::{Duration, Instant};

use sameport_policy::kernel_rules::Line;
use sameport_policy::kernel_rules::model::{LO, Send, Share};
use socket2::Socket;

use super::sockets::new_socket;
use super::{Run, Stop, target};

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Loopback delivers at once; a busy machine may need a moment.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(1);

/// Sends, and counts what each socket of the row received.
pub(super) fn send(run: &Run<'_>, send: Send, share: Share) -> Result<Line, Stop> {
    let (ip, to) = target(run, send.ip)?;
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
    // Kept until the clients are gone: an end that closes after a reset leaves no TIME_WAIT behind.
    let mut accepted = Vec::new();
    let deadline = Instant::now() + SETTLE_LIMIT;
    let mut total = 0;
    while total < send.count && Instant::now() < deadline {
        let mut idle = true;
        for member in run.members.iter().filter(|member| member.serving) {
            let got = if member.proto.listens() {
                member.socket.accept().map(|(connection, _)| accepted.push(connection))
            } else {
                member.socket.recv_from(&mut [std::mem::MaybeUninit::uninit(); 8]).map(|_| ())
            };
            match got {
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
    Ok(Line::received(send, share, &counts))
}

/// Connects; the client end will reset, so that no TIME_WAIT stays on the row's port.
fn connect(client: &Socket, to: &socket2::SockAddr) -> io::Result<()> {
    client.set_linger(Some(Duration::ZERO))?;
    client.connect_timeout(to, CONNECT_LIMIT)
}

/// Opens connections that nobody accepts yet.
pub(super) fn queue(run: &mut Run<'_>, count: usize) -> Result<Line, Stop> {
    let (ip, to) = target(run, LO)?;
    for _ in 0..count {
        let client = new_socket(run.proto, ip)?;
        connect(&client, &to)?;
        client.set_nonblocking(true)?;
        run.queue.push(client);
    }
    Ok(Line::done(format!("{count} connections queue")))
}

/// Counts the queued connections that were reset, and accepts all others.
pub(super) fn resets(run: &Run<'_>, expected: bool) -> Result<Line, Stop> {
    let deadline = Instant::now() + SETTLE_LIMIT;
    let total = run.queue.len();
    let mut accepted = Vec::new();
    let mut reset = 0;
    while Instant::now() < deadline && reset + accepted.len() < total {
        reset = run.queue.iter().filter(|client| is_reset(client)).count();
        for member in run.members.iter().filter(|member| member.serving) {
            while let Ok((connection, _)) = member.socket.accept() {
                accepted.push(connection);
            }
        }
        std::thread::sleep(PAUSE);
    }
    Ok(Line::queued(total, expected, reset, accepted.len()))
}

/// Whether the other end has reset or closed. Consumes nothing: nobody sends on these, and a reset
/// stays visible because an error read once is followed by end of file.
fn is_reset(client: &Socket) -> bool {
    match client.recv(&mut [std::mem::MaybeUninit::uninit(); 1]) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// Accepts one connection from a non-blocking listener, within the limit.
pub(super) fn accept_one(listener: &Socket) -> io::Result<Socket> {
    let deadline = Instant::now() + SETTLE_LIMIT;
    loop {
        match listener.accept() {
            Ok((connection, _)) => return Ok(connection),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
