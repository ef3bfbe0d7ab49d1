//! Clients that count what becomes of every connection they make, each with a connection for every
//! request. Here for the tests and for `cargo xtask bench restart`, which include this file both.
//!
//! Every connection comes from a loopback address and port of its own, never used again, so ports
//! cannot run out, and whom a server has accepted can be told by its address alone.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// How a connection was lost, as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Loss {
    /// Nobody listened.
    Refused,
    /// Reset or closed before the answer was whole.
    Reset,
    /// No step for as long as the clients are patient.
    TimedOut,
    /// Something else than 200 OK, which is what proxies say when their server has gone.
    WrongAnswer,
}

impl Loss {
    /// `None` if this is no property of the other side, but of this machine: no descriptors left.
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

/// Clients of one server.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) server: SocketAddr,
    /// So many at once.
    pub(crate) count: u16,
    /// Connections a second, whether answers come or not; `None`: each client makes its next one
    /// when the last is answered.
    pub(crate) rate: Option<u32>,
    /// How long a client waits for each step.
    pub(crate) patience: Duration,
    /// Connections that were begun so far.
    pub(crate) begun: AtomicU64,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answered: u64,
    /// Each lost connection, with where it came from.
    pub(crate) lost: Vec<(Loss, SocketAddrV4)>,
    /// Microseconds of each `connect` that succeeded.
    pub(crate) connects: Vec<u32>,
    /// Microseconds of each answered request, from before `connect`, or from when it was due.
    pub(crate) requests: Vec<u32>,
}

impl Seen {
    pub(crate) fn made(&self) -> u64 {
        self.answered + self.lost.len() as u64
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.lost.extend(other.lost);
        self.connects.extend(other.connects);
        self.requests.extend(other.requests);
    }
}

/// A client that lost a connection does not hammer: it would count one outage many times.
const AFTER_A_LOSS: Duration = Duration::from_millis(10);

impl Clients {
    pub(crate) fn of(server: SocketAddr, count: u16) -> Self {
        let (patience, begun) = (Duration::from_secs(10), AtomicU64::new(0));
        Self { server, count, rate: None, patience, begun }
    }

    /// Makes connections until they are enough, which is asked before each with how many there
    /// were.
    ///
    /// # Errors
    ///
    /// What is wrong with this machine, such as no descriptors left; nothing that a server does.
    pub(crate) fn drive(&self, enough: impl Fn(u64) -> bool + Sync) -> io::Result<Seen> {
        let broken = AtomicBool::new(false);
        let start = Instant::now();
        let one = || {
            let mut seen = Seen::default();
            loop {
                let number = self.begun.fetch_add(1, Ordering::Relaxed);
                if broken.load(Ordering::Relaxed) || enough(number) {
                    return Ok(seen);
                }
                let due = self.rate.map(|rate| start + Duration::from_secs(number) / rate);
                thread::sleep(due.map_or(Duration::ZERO, |due| due - Instant::now().min(due)));
                if let Err(error) = self.connection(due.unwrap_or_else(Instant::now), &mut seen) {
                    broken.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..self.count).map(|_| scope.spawn(one)).collect();
            let mut all = Seen::default();
            for client in clients {
                all.add(client.join().map_err(|_| io::Error::other("a client panicked"))??);
            }
            Ok(all)
        })
    }

    fn connection(&self, since: Instant, seen: &mut Seen) -> io::Result<()> {
        let (socket, from) = bound_socket()?;
        let begin = Instant::now();
        let answered = socket.connect_timeout(&self.server.into(), self.patience).and_then(|()| {
            seen.connects.push(microseconds(begin));
            socket.set_read_timeout(Some(self.patience))?;
            socket.set_write_timeout(Some(self.patience))?;
            // Closing it leaves nothing waiting (TIME_WAIT) at either end.
            socket.set_linger(Some(Duration::ZERO))?;
            request(&TcpStream::from(socket), true)
        });
        match answered {
            Ok(()) => {
                seen.answered += 1;
                seen.requests.push(microseconds(since));
            }
            Err(error) => {
                seen.lost.push((Loss::of(&error).ok_or(error)?, from));
                thread::sleep(AFTER_A_LOSS);
            }
        }
        Ok(())
    }
}

fn microseconds(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// A socket that is bound to the next free one of 65,000 addresses times 28,000 ports.
fn bound_socket() -> io::Result<(Socket, SocketAddrV4)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Where the kernel picks ports for connections, too: who listens keeps away from there.
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

/// One request, and its answer, whole.
///
/// # Errors
///
/// `InvalidData` if the answer is another than 200 OK with a length.
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
        let room = &mut buffer[length..];
        if room.is_empty() {
            return Err(bad("an answer that is too long"));
        }
        match client.read(room)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => length += read,
        }
    }
}

/// How long the answer is that begins like this, once its head is complete.
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

/// Whom servers have accepted, as those that keep it (`drains.c`) left it in a folder.
pub(crate) fn accepted(folder: &Path) -> io::Result<HashSet<SocketAddrV4>> {
    let mut all = HashSet::new();
    for file in std::fs::read_dir(folder)? {
        // Sixteen bytes each: family, port and address in network order, zeros.
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
    fn the_length_of_an_answer_is_read_from_its_head() {
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
    fn each_loss_is_told_apart_and_comes_from_an_address_of_its_own() {
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
            // Connected by the kernel, and accepted by nobody.
            thread::sleep(Duration::from_millis(300));
            peers
        });
        let mut clients = Clients::of(server, 1);
        clients.patience = Duration::from_millis(100);
        let mut seen = clients.drive(|made| made == 4).expect("sockets");
        let peers = serving.join().expect("the server");
        seen.add(clients.drive(|made| made == 6).expect("sockets"));
        assert_eq!((seen.answered, seen.made()), (1, 5));
        let (how, from): (Vec<_>, Vec<_>) = seen.lost.into_iter().unzip();
        assert_eq!(how, [Loss::WrongAnswer, Loss::Reset, Loss::TimedOut, Loss::Refused]);
        assert_eq!([SocketAddr::V4(from[0]), SocketAddr::V4(from[1])], peers[1..]);
        assert_eq!(from.iter().collect::<HashSet<_>>().len(), 4);
    }
}
