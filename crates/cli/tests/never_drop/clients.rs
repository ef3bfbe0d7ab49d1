//! HTTP clients that classify every lost connection. Each request has its own connection. The tests
//! and `cargo xtask bench restart` include this file.
//!
//! Each connection has a loopback address and port that no other one uses. So ports cannot run out,
//! and the address identifies a connection that a server has accepted.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// The kind of a loss, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Loss {
    /// No listener.
    Refused,
    /// Reset or closed before the complete response.
    Reset,
    /// A step took longer than the timeout.
    TimedOut,
    /// A response other than 200 OK, as from a proxy without a server.
    WrongAnswer,
}

impl Loss {
    /// `None` for an error of this machine, such as no descriptors.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        Some(match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::TimedOut,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof => Self::Reset,
            ErrorKind::InvalidData => Self::WrongAnswer,
            _ => return None,
        })
    }
}

/// The clients of one server.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) server: SocketAddr,
    /// The number of parallel connections.
    pub(crate) count: u16,
    /// Connections a second, independent of the responses. `None`: a client opens its next
    /// connection after the response.
    pub(crate) rate: Option<u32>,
    /// The timeout of each step.
    pub(crate) patience: Duration,
    /// The number of connections so far.
    pub(crate) begun: AtomicU64,
}

/// The results of the clients.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) answered: u64,
    /// Each lost connection and its source address.
    pub(crate) lost: Vec<(Loss, SocketAddrV4)>,
    /// The duration of each successful `connect`, in microseconds.
    pub(crate) connects: Vec<u32>,
    /// The duration of each answered request, in microseconds, from before `connect` or from its
    /// due time.
    pub(crate) requests: Vec<u32>,
}

impl Results {
    pub(crate) fn connections(&self) -> u64 {
        self.answered + self.lost.len() as u64
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.lost.extend(other.lost);
        self.connects.extend(other.connects);
        self.requests.extend(other.requests);
    }
}

/// A client pauses after a loss, so that one outage does not count many times.
const AFTER_A_LOSS: Duration = Duration::from_millis(10);

impl Clients {
    pub(crate) fn of(server: SocketAddr, count: u16) -> Self {
        let (patience, begun) = (Duration::from_secs(60), AtomicU64::new(0));
        Self { server, count, rate: None, patience, begun }
    }

    /// Opens connections until `enough` returns true. Its argument is the number of connections so
    /// far.
    ///
    /// # Errors
    ///
    /// Errors of this machine, such as no descriptors. Losses are not errors.
    pub(crate) fn drive(&self, enough: impl Fn(u64) -> bool + Sync) -> io::Result<Results> {
        let broken = AtomicBool::new(false);
        let start = Instant::now();
        let one = || {
            let mut results = Results::default();
            loop {
                let number = self.begun.fetch_add(1, Ordering::Relaxed);
                if broken.load(Ordering::Relaxed) || enough(number) {
                    return Ok(results);
                }
                let due = self.rate.map(|rate| start + Duration::from_secs(number) / rate);
                thread::sleep(due.map_or(Duration::ZERO, |due| due - Instant::now().min(due)));
                if let Err(error) = self.connection(due.unwrap_or_else(Instant::now), &mut results)
                {
                    broken.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..self.count).map(|_| scope.spawn(one)).collect();
            let mut all = Results::default();
            for client in clients {
                all.add(client.join().map_err(|_| io::Error::other("a client panicked"))??);
            }
            Ok(all)
        })
    }

    fn connection(&self, since: Instant, results: &mut Results) -> io::Result<()> {
        let (socket, from) = bound_socket()?;
        let begin = Instant::now();
        let answered = socket.connect_timeout(&self.server.into(), self.patience).and_then(|()| {
            results.connects.push(microseconds(begin));
            socket.set_read_timeout(Some(self.patience))?;
            socket.set_write_timeout(Some(self.patience))?;
            // The close resets, so that neither end keeps TIME_WAIT.
            socket.set_linger(Some(Duration::ZERO))?;
            request(&TcpStream::from(socket), true)
        });
        match answered {
            Ok(()) => {
                results.answered += 1;
                results.requests.push(microseconds(since));
            }
            Err(error) => {
                results.lost.push((Loss::of(&error).ok_or(error)?, from));
                thread::sleep(AFTER_A_LOSS);
            }
        }
        Ok(())
    }
}

fn microseconds(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// A socket bound to the next of 65,000 addresses with 28,000 ports each.
fn bound_socket() -> io::Result<(Socket, SocketAddrV4)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // The ephemeral range, which servers avoid.
    const PORTS: std::ops::Range<u16> = 32_768..61_000;
    let ours = u8::try_from(1 + std::process::id() % 250).unwrap_or(1);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let [.., third, fourth] = (number % 0xffff + 1).to_be_bytes();
        let port = u64::from(PORTS.start) + number / 0xffff % PORTS.len() as u64;
        let address = Ipv4Addr::new(127, ours, third, fourth);
        let from = SocketAddrV4::new(address, u16::try_from(port).unwrap_or(PORTS.start));
        match socket.bind(&SocketAddr::from(from).into()) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            done => return done.map(|()| (socket, from)),
        }
    }
}

/// One request and its complete response.
///
/// # Errors
///
/// `InvalidData` for a response other than 200 OK with a length.
pub(crate) fn request(mut client: &TcpStream, close: bool) -> io::Result<()> {
    let connection = if close { "close" } else { "keep-alive" };
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
    client.write_all(request.as_bytes())?;
    let mut buffer = [0; 2048];
    let mut length = 0;
    loop {
        if let Some(whole) = answer_length(&buffer[..length])? {
            match length.cmp(&whole) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(()),
                std::cmp::Ordering::Greater => return Err(bad("more than the answer")),
            }
        }
        let free = &mut buffer[length..];
        if free.is_empty() {
            return Err(bad("an answer that is too long"));
        }
        match client.read(free)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => length += read,
        }
    }
}

/// The length of the whole response, once its header is complete.
pub(crate) fn answer_length(begin: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = begin.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&begin[..end]).map_err(|_| bad("a head that is no text"))?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(bad(head.lines().next().unwrap_or_default()));
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    length.map(|body| Some(end + 4 + body)).ok_or_else(|| bad("no Content-Length"))
}

pub(crate) fn bad(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// The connections that the servers (`drains.c`) have recorded in a directory.
pub(crate) fn accepted(dir: &Path) -> io::Result<HashSet<SocketAddrV4>> {
    let mut all = HashSet::new();
    for file in std::fs::read_dir(dir)? {
        // 16 bytes each: family, port and address in network order, zeros.
        for address in std::fs::read(file?.path())?.as_chunks::<16>().0 {
            let [_, _, high, low, a, b, c, d, ..] = *address;
            all.insert(SocketAddrV4::new([a, b, c, d].into(), u16::from_be_bytes([high, low])));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_length_comes_from_the_header() {
        let cases: [(&str, Option<usize>); 4] = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", Some(43)),
            ("HTTP/1.1 200 OK\r\nx: y\r\ncontent-length:0\r\n\r\n", Some(43)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", None),
            ("", None),
        ];
        for (begin, expected) in cases {
            assert_eq!(answer_length(begin.as_bytes()).ok(), Some(expected), "{begin:?}");
        }
        for wrong in ["HTTP/1.1 500 X\r\nContent-Length: 1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
            assert!(answer_length(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn losses_are_classified_by_source_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = listener.local_addr().expect("its address");
        let answers =
            ["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 502 X\r\n\r\n", ""];
        let serving = thread::spawn(move || {
            let peers = answers.map(|answer| {
                let (mut client, peer) = listener.accept().expect("a client");
                assert!(client.read(&mut [0; 1024]).expect("a request") > 0);
                client.write_all(answer.as_bytes()).expect("written");
                peer
            });
            (peers, listener)
        });
        let mut clients = Clients::of(server, 1);
        let mut results = clients.drive(|connections| connections == 3).expect("sockets");
        let (peers, listener) = serving.join().expect("the server");
        // The kernel completes the connection, and no server accepts it.
        clients.patience = Duration::from_millis(100);
        results.add(clients.drive(|connections| connections == 5).expect("sockets"));
        drop(listener);
        results.add(clients.drive(|connections| connections == 7).expect("sockets"));
        assert_eq!((results.answered, results.connections()), (1, 5));
        let (how, from): (Vec<_>, Vec<_>) = results.lost.into_iter().unzip();
        assert_eq!(how, [Loss::WrongAnswer, Loss::Reset, Loss::TimedOut, Loss::Refused]);
        assert_eq!([SocketAddr::V4(from[0]), SocketAddr::V4(from[1])], peers[1..]);
        assert_eq!(from.iter().collect::<HashSet<_>>().len(), 4);
    }
}
