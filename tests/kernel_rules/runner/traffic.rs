//! Connections and datagrams: how many each socket receives, and what happens to queued connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{SockAddr, Socket};

use super::environment::Environment;
use super::sockets::{CONNECT_TIMEOUT, new_socket, parse_ip};
use super::{Run, Stop};
use crate::model::{LO, Port, Send, Share};
use crate::report::StepReport;

/// Loopback delivers at once, but a busy or an emulated machine delays the receiver. Each delivery
/// restarts the limit.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);
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
    let mut deadline = Instant::now() + SETTLE_TIMEOUT;
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
        } else {
            deadline = Instant::now() + SETTLE_TIMEOUT;
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
    let mut deadline = Instant::now() + SETTLE_TIMEOUT;
    let total = run.queued.len();
    let mut accepted = Vec::new();
    let mut resets = 0;
    while Instant::now() < deadline && resets + accepted.len() < total {
        let before = resets + accepted.len();
        resets = run.queued.iter().filter(|client| is_reset(client)).count();
        for member in run.members.iter().filter(|member| member.serves) {
            while let Ok((connection, _)) = member.socket.accept() {
                accepted.push(connection);
            }
        }
        if resets + accepted.len() > before {
            deadline = Instant::now() + SETTLE_TIMEOUT;
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

/// Waits until no connection of the row's own network namespace exchanges its last segments: the kernel
/// may do so after close(2) returned, and until then the connection keeps its port.
pub(super) fn wait_until_no_connection_ends(environment: &Environment) -> Result<(), Stop> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    while environment.has_own_netns() && Instant::now() < deadline {
        let mut tables = String::new();
        for table in ["tcp", "tcp6"] {
            // Without IPv6 the second does not exist.
            let path = format!("/proc/thread-self/net/{table}");
            tables += &std::fs::read_to_string(path).unwrap_or_default();
        }
        if !has_ending_connection(&tables) {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether a line of /proc/net/tcp has the state FIN_WAIT1, LAST_ACK or CLOSING. proc_pid_net(5).
fn has_ending_connection(table: &str) -> bool {
    let states = table.lines().filter_map(|line| line.split_whitespace().nth(3));
    states.into_iter().any(|state| matches!(state, "04" | "09" | "0B"))
}

/// Tests of this file, which the harness of the table runs.
pub(crate) mod checks {
    pub(crate) fn the_last_segments_of_a_connection_are_waited_for() {
        let table = |state: &str| {
            format!(
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n   \
                 0: 0100007F:1B9E 0100007F:C350 {state} 00000000:00000000 00:00000000 00000000\n"
            )
        };
        for state in ["04", "09", "0B"] {
            assert!(super::has_ending_connection(&table(state)), "{state}");
        }
        // ESTABLISHED, FIN_WAIT2, TIME_WAIT, CLOSE_WAIT, LISTEN
        for state in ["01", "05", "06", "08", "0A"] {
            assert!(!super::has_ending_connection(&table(state)), "{state}");
        }
        assert!(!super::has_ending_connection(""));
    }
}
