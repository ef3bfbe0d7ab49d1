//! The measured member of a group: tells every client its pid, and holds the connection. None of it knows
//! sameport.
//!
//! The client decides how the connection ends, by a byte: see [`Ending`].

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// As large as the kernel permits by default (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// How long a connection of [`Ending::Late`] stays in CLOSE-WAIT.
const LATE: Duration = Duration::from_millis(30);

/// After this time without an acknowledgement the kernel gives a connection up.
const USER_TIMEOUT: Duration = Duration::from_millis(300);

/// How long a serial member waits for a request, because a client can end before it sends one.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Args {
    port: u16,
    /// Set `SO_REUSEPORT` itself
    #[arg(long)]
    shared: bool,
    /// Serve the listener with this number, which the process inherits
    #[arg(long)]
    descriptor: Option<RawFd>,
    /// One connection after the other: reads microseconds, sleeps as long, and answers
    #[arg(long)]
    serial: bool,
    /// Listeners on the port
    #[arg(long, default_value_t = 1)]
    sockets: u16,
    /// Close the listeners and open them again, this many times
    #[arg(long, default_value_t = 0)]
    again: u32,
    /// Milliseconds between closing and opening
    #[arg(long, default_value_t = 100)]
    every: u64,
}

/// How a connection ends. By default the member closes when it reads the end of the client's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The member closes at once.
    Close = b'c' as isize,
    /// The member resets at once.
    Reset = b'r' as isize,
    /// The member closes its direction, and the rest when the client closes.
    Half = b'h' as isize,
    /// The member stays in CLOSE-WAIT for a while.
    Late = b'w' as isize,
    /// The member sends to a client that reads nothing, until the kernel gives up.
    Timeout = b't' as isize,
}

impl Ending {
    pub(crate) const ALL: [Self; 5] =
        [Self::Close, Self::Reset, Self::Half, Self::Late, Self::Timeout];

    /// The byte of the client.
    pub(crate) fn byte(self) -> u8 {
        self as u8
    }

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|ending| ending.byte() == byte)
    }
}

pub(crate) fn run(args: &Args) -> io::Result<()> {
    // The end of stdin ends the process, whatever its connections do.
    thread::spawn(|| {
        let mut bytes = [0; 64];
        while !matches!(io::stdin().read(&mut bytes), Ok(0) | Err(_)) {}
        std::process::exit(0);
    });
    if args.serial {
        return serve_serially(&args.listener()?);
    }
    let mut member = HoldingMember::new()?;
    member.open(args)?;
    for _ in 0..args.again {
        member.serve_until(Some(Instant::now() + Duration::from_millis(args.every)))?;
        // With what waits in their queues: the kernel, or a program of it, moves that to the others.
        member.listeners.clear();
        member.open(args)?;
    }
    member.serve_until(None)
}

impl Args {
    fn listener(&self) -> io::Result<TcpListener> {
        if let Some(number) = self.descriptor {
            return inherited(number);
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        // As most servers do: a connection in TIME-WAIT does not keep the port.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(self.shared)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)).into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }
}

/// A duplicate of a descriptor that the process inherits.
fn inherited(number: RawFd) -> io::Result<TcpListener> {
    let path = format!("/proc/self/fd/{number}");
    std::fs::symlink_metadata(&path)?;
    #[expect(unsafe_code, reason = "a number of the command line becomes a descriptor")]
    // SAFETY: the descriptor is open, as the link in /proc shows, and nothing in this process closes it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(TcpListener::from(borrowed.try_clone_to_owned()?))
}

/// Connections and listeners of one thread.
struct HoldingMember {
    poll: OwnedFd,
    greeting: Vec<u8>,
    listeners: HashMap<RawFd, TcpListener>,
    clients: HashMap<RawFd, (TcpStream, Option<Ending>)>,
    /// In the order of their times.
    late: Vec<(Instant, RawFd)>,
}

impl HoldingMember {
    fn new() -> io::Result<Self> {
        let greeting = format!("{}\n", std::process::id()).into_bytes();
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (listeners, clients) = (HashMap::new(), HashMap::new());
        Ok(Self { poll, greeting, listeners, clients, late: Vec::new() })
    }

    fn open(&mut self, args: &Args) -> io::Result<()> {
        for _ in 0..args.sockets {
            let listener = args.listener()?;
            listener.set_nonblocking(true)?;
            // With a shared queue, one member is woken, not all.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
            epoll::add(&self.poll, &listener, data(listener.as_raw_fd()), flags)?;
            self.listeners.insert(listener.as_raw_fd(), listener);
        }
        Ok(())
    }

    fn serve_until(&mut self, end: Option<Instant>) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        while end.is_none_or(|end| Instant::now() < end) {
            events.clear();
            let next = self.late.first().map(|(due, _)| *due).into_iter().chain(end).min();
            let wait = next.map(|due| due.saturating_duration_since(Instant::now()));
            let wait = wait.and_then(|wait| rustix::time::Timespec::try_from(wait).ok());
            let events_in = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.poll, events_in, wait.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let Ok(number) = RawFd::try_from(event.data.u64()) else { continue };
                match self.listeners.get(&number) {
                    Some(_) => self.accept_all(number),
                    None => self.hear(number),
                }
            }
            self.close_late();
        }
        Ok(())
    }

    fn accept_all(&mut self, number: RawFd) {
        // A few, so that a long queue does not keep the others from it.
        for _ in 0..16 {
            let Some(Ok((mut client, _))) = self.listeners.get(&number).map(TcpListener::accept)
            else {
                return;
            };
            let heard = client.set_nonblocking(true).is_ok()
                && client.write_all(&self.greeting).is_ok()
                && epoll::add(&self.poll, &client, data(client.as_raw_fd()), epoll::EventFlags::IN)
                    .is_ok();
            // A client that reset is not an error of the member.
            if heard {
                self.clients.insert(client.as_raw_fd(), (client, None));
            }
        }
    }

    fn hear(&mut self, number: RawFd) {
        let Some((client, ending)) = self.clients.get_mut(&number) else { return };
        let mut byte = [0];
        match client.read(&mut byte) {
            Ok(0) if *ending == Some(Ending::Late) => {
                let _ = epoll::delete(&self.poll, &*client);
                self.late.push((Instant::now() + LATE, number));
            }
            Ok(1) => {
                *ending = Ending::of(byte[0]);
                let done = ending.is_none_or(|ending| begin(client, ending).unwrap_or(true));
                if done {
                    self.clients.remove(&number);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => {
                self.clients.remove(&number);
            }
        }
    }

    fn close_late(&mut self) {
        let now = Instant::now();
        let due = self.late.partition_point(|(due, _)| *due <= now);
        for (_, number) in self.late.drain(..due) {
            self.clients.remove(&number);
        }
    }
}

/// Begins an ending; returns whether that is also its end.
fn begin(client: &mut TcpStream, ending: Ending) -> io::Result<bool> {
    match ending {
        Ending::Close => return Ok(true),
        Ending::Reset => {
            SockRef::from(&*client).set_linger(Some(Duration::ZERO))?;
            return Ok(true);
        }
        Ending::Half => client.shutdown(std::net::Shutdown::Write)?,
        Ending::Late => {}
        Ending::Timeout => {
            SockRef::from(&*client).set_tcp_user_timeout(Some(USER_TIMEOUT))?;
            let block = [b'.'; 4096];
            loop {
                match client.write(&block) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(false)
}

fn data(number: RawFd) -> epoll::EventData {
    epoll::EventData::new_u64(u64::try_from(number).unwrap_or(u64::MAX))
}

fn serve_serially(listener: &TcpListener) -> io::Result<()> {
    let own = std::process::id();
    loop {
        match listener.accept() {
            // The client counts what it misses.
            Ok((client, _)) => drop(answer_slowly(&client, own)),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn answer_slowly(client: &TcpStream, own: u32) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line)?;
    let microseconds = line.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
    thread::sleep(Duration::from_micros(microseconds));
    let mut to = client;
    writeln!(to, "{own}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_has_its_byte() {
        for ending in Ending::ALL {
            assert_eq!(Ending::of(ending.byte()), Some(ending));
        }
        assert_eq!(Ending::of(b'x'), None);
    }
}
