//! Clients whose connections end in every way, and stay open for different times.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::callers::CallCounts;
use super::member::Ending;

/// The limit of each step.
const PATIENCE: Duration = Duration::from_secs(20);

/// The most connections that one client holds.
const HELD: usize = 60;

/// The load that all clients share.
pub(crate) struct EndingLoad {
    pub(crate) address: SocketAddr,
    /// Connections begun by all clients.
    pub(crate) begun: AtomicU64,
    /// Connections after which the clients pause.
    pub(crate) until: AtomicU64,
    pub(crate) over: AtomicBool,
}

/// What one client does next, by a number from 0 to 9,999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Reset after the greeting.
    Reset,
    /// Closed after the greeting.
    Close,
    /// The member ends it.
    Member(Ending),
    /// Closed before the member can accept it.
    Abort,
    /// Stays open, and is reset when the client holds too many.
    Hold,
}

impl Step {
    fn of(number: u64) -> Self {
        match number {
            0..3500 => Self::Reset,
            3500..5500 => Self::Close,
            5500..6500 => Self::Member(Ending::Close),
            6500..7300 => Self::Member(Ending::Reset),
            7300..8000 => Self::Member(Ending::Half),
            8000..8700 => Self::Member(Ending::Late),
            8700..8702 => Self::Member(Ending::Timeout),
            8702..9300 => Self::Abort,
            _ => Self::Hold,
        }
    }
}

/// One client. Its held connections survive pauses.
pub(crate) struct EndingClient {
    number: u8,
    state: u64,
    held: VecDeque<TcpStream>,
    /// Connections that the kernel of the member gives up, and when that has happened.
    silent: VecDeque<(Instant, TcpStream)>,
    pub(crate) counts: CallCounts,
}

impl EndingClient {
    pub(crate) fn new(number: u8) -> Self {
        let state = u64::from(number) + 1;
        let (held, silent) = (VecDeque::new(), VecDeque::new());
        Self { number, state, held, silent, counts: CallCounts::default() }
    }

    /// Makes connections until the load pauses.
    ///
    /// # Errors
    ///
    /// An error of this machine, such as no descriptors. Lost connections are counted.
    pub(crate) fn work(&mut self, load: &EndingLoad) -> io::Result<()> {
        while !load.over.load(Ordering::Relaxed)
            && load.begun.fetch_add(1, Ordering::Relaxed) < load.until.load(Ordering::Relaxed)
        {
            let step = Step::of(self.random() % 10_000);
            let done = self.one(load.address, step);
            self.counts.count(done)?;
            while self.silent.front().is_some_and(|(due, _)| *due < Instant::now()) {
                self.silent.pop_front();
            }
        }
        Ok(())
    }

    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One connection; returns the pid of its member, or 0 if that is not known.
    fn one(&mut self, address: SocketAddr, step: Step) -> io::Result<u32> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        if step == Step::Member(Ending::Timeout) {
            // The member's data must not fit.
            socket.set_recv_buffer_size(4096)?;
        }
        // Addresses of its own, so that TIME-WAIT does not exhaust the ports.
        let fourth = u8::try_from(self.random() % 250).unwrap_or(0) + 1;
        let from = Ipv4Addr::new(127, 10, self.number, fourth);
        socket.bind(&SocketAddr::from(SocketAddrV4::new(from, 0)).into())?;
        if step == Step::Abort {
            return abort(&socket, address).map(|()| 0);
        }
        socket.connect_timeout(&address.into(), PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut client = TcpStream::from(socket);
        let pid = greeting(&mut client)?;
        match step {
            Step::Reset => reset(&client)?,
            Step::Close | Step::Abort => {}
            Step::Member(Ending::Late) => {
                client.write_all(&[Ending::Late.byte()])?;
                client.shutdown(Shutdown::Write)?;
            }
            Step::Member(Ending::Timeout) => {
                client.write_all(&[Ending::Timeout.byte()])?;
                self.silent.push_back((Instant::now() + Duration::from_secs(3), client));
            }
            Step::Member(ending) => {
                client.write_all(&[ending.byte()])?;
                // The end or a reset; a killed member does the same.
                let _ = client.read(&mut [0]);
            }
            Step::Hold => {
                self.held.push_back(client);
                if self.held.len() > HELD {
                    self.held.pop_front().map_or(Ok(()), |oldest| reset(&oldest))?;
                }
            }
        }
        Ok(pid)
    }
}

/// The next close resets.
fn reset(client: &TcpStream) -> io::Result<()> {
    SockRef::from(client).set_linger(Some(Duration::ZERO))
}

/// Connects and resets, without waiting for the member.
fn abort(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    match socket.connect(&address.into()) {
        Err(error)
            if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// The pid that the member sends first.
fn greeting(client: &mut TcpStream) -> io::Result<u32> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') && line.len() < 16 {
        client.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    let text = std::str::from_utf8(&line).ok().and_then(|text| text.trim().parse().ok());
    text.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_happens() {
        let steps: Vec<Step> = (0..10_000).map(Step::of).collect();
        for ending in Ending::ALL {
            assert!(steps.contains(&Step::Member(ending)), "{ending:?}");
        }
        for step in [Step::Reset, Step::Close, Step::Abort, Step::Hold] {
            assert!(steps.contains(&step), "{step:?}");
        }
    }
}
