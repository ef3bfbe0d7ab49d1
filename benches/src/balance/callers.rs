//! Clients that ask which member they got, and what became of the others.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

use crate::clients::Loss;
use crate::error::BenchError;

/// What became of connections.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct CallCounts {
    pub(crate) connections: u64,
    pub(crate) refused: u64,
    /// Reset before a member had accepted the connection.
    pub(crate) reset_before_accept: u64,
    pub(crate) reset_in_hand: u64,
    pub(crate) timed_out: u64,
    /// Connections of each member, by its pid.
    #[serde(skip)]
    pub(crate) of_member: BTreeMap<u32, u64>,
}

impl CallCounts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.refused += other.refused;
        self.reset_before_accept += other.reset_before_accept;
        self.reset_in_hand += other.reset_in_hand;
        self.timed_out += other.timed_out;
        for (pid, count) in &other.of_member {
            *self.of_member.entry(*pid).or_default() += count;
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.refused + self.reset_before_accept + self.reset_in_hand + self.timed_out
    }

    /// The connections that a member greeted.
    pub(crate) fn greeted(&self) -> u64 {
        self.of_member.values().sum()
    }

    /// The part that this member got, in percent.
    pub(crate) fn share(&self, pid: u32) -> f64 {
        percent(self.of_member.get(&pid).copied().unwrap_or(0), self.greeted())
    }

    /// Counts one connection. The error is one of this machine, such as no descriptors.
    pub(crate) fn count(&mut self, greeted: io::Result<u32>) -> io::Result<()> {
        self.connections += 1;
        match greeted {
            Ok(pid) => *self.of_member.entry(pid).or_default() += 1,
            Err(error) => match Loss::of(&error).ok_or(error)? {
                Loss::Refused => self.refused += 1,
                Loss::TimedOut => self.timed_out += 1,
                // The greeting is the first that a client reads.
                Loss::Reset | Loss::WrongAnswer => self.reset_before_accept += 1,
            },
        }
        Ok(())
    }
}

pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    let (part, whole) = (part as f64, whole.max(1) as f64);
    100.0 * part / whole
}

/// The clients of one address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Callers {
    pub(crate) address: SocketAddr,
    pub(crate) clients: u16,
    /// The limit of connecting and of the greeting.
    pub(crate) patience: Duration,
}

/// When clients stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Enough {
    pub(crate) connections: u64,
    pub(crate) time: Duration,
}

/// A connection that a member greeted. Open as long as this exists.
pub(crate) struct Greeted {
    #[expect(dead_code, reason = "keeps the connection open")]
    client: TcpStream,
    pub(crate) pid: u32,
}

impl Callers {
    /// One connection, and the pid of its member.
    pub(crate) fn greeted(&self, from: Option<Ipv4Addr>) -> io::Result<Greeted> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        if let Some(from) = from {
            socket.bind(&SocketAddr::from(SocketAddrV4::new(from, 0)).into())?;
        }
        socket.connect_timeout(&self.address.into(), self.patience)?;
        socket.set_read_timeout(Some(self.patience))?;
        // The close resets, so that neither end keeps TIME-WAIT.
        socket.set_linger(Some(Duration::ZERO))?;
        let mut client = TcpStream::from(socket);
        let mut line = [0; 16];
        let mut length = 0;
        while !line[..length].ends_with(b"\n") {
            match client.read(&mut line[length..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => length += read,
            }
        }
        let text = std::str::from_utf8(&line[..length - 1]).ok();
        let pid = text.and_then(|text| text.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Greeted { client, pid })
    }

    /// Short connections, one after the other by each client. Returns the counts and the seconds.
    pub(crate) fn call(&self, enough: Enough) -> Result<(CallCounts, f64), BenchError> {
        let (begun, broken) = (AtomicU64::new(0), AtomicBool::new(false));
        let start = Instant::now();
        let one = || -> io::Result<CallCounts> {
            let mut counts = CallCounts::default();
            while !broken.load(Ordering::Relaxed)
                && begun.fetch_add(1, Ordering::Relaxed) < enough.connections
                && start.elapsed() < enough.time
            {
                let greeted = self.greeted(None).map(|greeted| greeted.pid);
                counts.count(greeted).inspect_err(|_| broken.store(true, Ordering::Relaxed))?;
            }
            Ok(counts)
        };
        let results = thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients).map(|_| scope.spawn(one)).collect();
            clients.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        let mut all = CallCounts::default();
        for counts in results {
            let counts = counts.map_err(|_| "a client panicked".to_owned())?;
            all.add(&counts.map_err(|error| format!("connecting to {}: {error}", self.address))?);
        }
        Ok((all, start.elapsed().as_secs_f64()))
    }

    /// The pids of this many members, found by connections that stay open until all are known.
    pub(crate) fn members(&self, count: u16, limit: Duration) -> Result<Vec<u32>, BenchError> {
        let until = Instant::now() + limit;
        let (mut held, mut pids) = (Vec::new(), Vec::new());
        while Instant::now() < until {
            match self.greeted(None) {
                Ok(greeted) => {
                    if !pids.contains(&greeted.pid) {
                        pids.push(greeted.pid);
                    }
                    held.push(greeted);
                }
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
            if pids.len() >= usize::from(count) {
                drop(held);
                self.settle()?;
                return Ok(pids);
            }
            if held.len() > 100 * usize::from(count) {
                held.clear();
            }
        }
        Err(format!("{}: {} of {count} members answered", self.address, pids.len()))
    }

    /// Waits until no connection to the address is open.
    pub(crate) fn settle(&self) -> Result<(), BenchError> {
        let until = Instant::now() + crate::harness::PATIENCE;
        while Instant::now() < until {
            if open_connections(self.address.port())? == 0 {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!("{}: connections stay open", self.address))
    }
}

/// Connections of a local IPv4 port in ESTABLISHED or CLOSE-WAIT, from `/proc/net/tcp`.
fn open_connections(port: u16) -> Result<usize, BenchError> {
    let table = std::fs::read_to_string("/proc/net/tcp");
    let table = table.map_err(|error| format!("/proc/net/tcp: {error}"))?;
    Ok(table.lines().filter(|line| is_open(line, port)).count())
}

/// Columns: number, local address, remote address, state (01 ESTABLISHED, 08 CLOSE-WAIT).
fn is_open(line: &str, port: u16) -> bool {
    let mut columns = line.split_ascii_whitespace().skip(1);
    let local = columns.next().and_then(|local| local.rsplit_once(':'));
    let state = columns.nth(1);
    local.is_some_and(|(_, number)| u16::from_str_radix(number, 16) == Ok(port))
        && matches!(state, Some("01" | "08"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_connections_are_established_or_half_closed() {
        let line = |state| {
            format!("   0: 0100007F:1F90 0100007F:C350 {state} 00000000:00000000 00:00000000 0 0")
        };
        let cases = [("01", true), ("08", true), ("0A", false), ("06", false), ("05", false)];
        for (state, expected) in cases {
            assert_eq!(is_open(&line(state), 8080), expected, "{state}");
            assert!(!is_open(&line(state), 8081));
        }
        assert!(!is_open("  sl  local_address rem_address   st tx_queue rx_queue", 8080));
    }

    #[test]
    fn losses_are_told_apart() {
        let mut counts = CallCounts::default();
        for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut] {
            counts.count(Err(kind.into())).unwrap();
        }
        counts.count(Err(io::ErrorKind::UnexpectedEof.into())).unwrap();
        counts.count(Ok(7)).unwrap();
        assert!(counts.count(Err(io::ErrorKind::OutOfMemory.into())).is_err());
        let seen = [counts.refused, counts.timed_out, counts.reset_before_accept, counts.greeted()];
        assert_eq!((seen, counts.lost()), ([1, 1, 1, 1], 3));
        assert!((counts.share(7) - 100.0).abs() < 1e-9);
    }
}
