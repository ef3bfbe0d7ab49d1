//! Closing one listener of a set without losing a connection.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::drain::{PAUSE, Taken, take};
use crate::members::Member;

/// The least time without an arrival. When steering changes, another processor can have selected the
/// listener already, and still be handling the packet: 1 of 21,000 connections in 600 closings.
const LEAST_QUIET: Duration = Duration::from_millis(10);

/// How long a listener that is not withdrawn waits for an empty queue, and how long `accept` may fail
/// all the time, beyond the quiet time.
const DEADLINE: Duration = Duration::from_secs(10);

/// The connections that a listener still gets before it closes: [`Member::drain`].
#[derive(Debug)]
#[must_use = "the listener closes, and resets what waits in it, when the iterator is dropped"]
pub struct MemberDrain {
    member: Option<Member<TcpListener>>,
    is_withdrawn: bool,
    quiet: Duration,
    /// The last arrival; without steering, the start.
    last: Instant,
    /// The start; for a member that was withdrawn, the end of that.
    started: Instant,
    /// The first of the errors of `accept` in a row.
    failing_since: Option<Instant>,
}

impl Member<TcpListener> {
    /// Closes this listener without losing a connection: steers new connections to the other members
    /// ([`Member::withdraw`]), returns those that it still gets, and closes it after none has arrived
    /// for `quiet`.
    ///
    /// `quiet` is the time in which handshakes in progress complete: a few round-trip times of the
    /// clients; zero on loopback. It is raised to 10 ms, for packets that other processors are handling.
    /// The iterator blocks its thread, and the streams are blocking.
    ///
    /// If the system or the other sockets on the address prevent steering
    /// ([`MemberDrain::is_withdrawn`] is false), the iterator ends with the first moment after `quiet`
    /// at which the queue is empty, at the latest 10 s later. So it does after the last of the other
    /// members has left. Few connections are lost: 11 of 22,000 in 600 closings
    /// (docs/benchmarks.md). A connection between that moment and the close is reset; on Linux 5.14
    /// and later, it moves to another listener if `net.ipv4.tcp_migrate_req` is set, ip-sysctl.rst.
    /// With [`Steering::IncomingCpu`](crate::Steering::IncomingCpu), members of another set with the
    /// same processors take over at once, and nothing is lost.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[cfg(target_os = "linux")] {
    /// let mut members = sameport::listen_n("127.0.0.1:0", 3)?;
    /// if let Some(member) = members.remove(0) {
    ///     for stream in member.drain(Duration::ZERO) {
    ///         let (stream, _peer) = stream?;
    ///         // Answer.
    /// #       drop(stream);
    ///     }
    /// }
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn drain(self, quiet: Duration) -> MemberDrain {
        let is_withdrawn = self.withdraw().is_ok();
        if !is_withdrawn {
            self.renounce_cpu();
        }
        let quiet = quiet.max(LEAST_QUIET);
        let started = Instant::now();
        MemberDrain {
            member: Some(self),
            is_withdrawn,
            quiet,
            last: started,
            started,
            failing_since: None,
        }
    }
}

impl MemberDrain {
    /// Whether the member gets no new connections: [`Member::withdraw`] succeeded, and other members
    /// were left when `next` was called last.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let mut members = sameport::Options::exclusive().listen_n("127.0.0.1:0", 1)?;
    /// let drain = members.remove(0).unwrap().drain(Duration::from_millis(1));
    /// assert!(!drain.is_withdrawn());
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        self.is_withdrawn
    }
}

/// An item is an error if `accept` fails, for example for lack of file descriptors. The iterator
/// continues after a pause of 10 ms, until `accept` has failed for 10 s beyond the quiet time.
impl Iterator for MemberDrain {
    type Item = io::Result<(TcpStream, SocketAddr)>;

    fn next(&mut self) -> Option<Self::Item> {
        let listener = self.member.as_ref()?;
        if let Err(error) = listener.set_nonblocking(true) {
            self.member = None;
            return Some(Err(error));
        }
        if self.is_withdrawn && !listener.is_withdrawn() {
            self.is_withdrawn = false;
            self.started = Instant::now();
        }
        // Without steering, a queue under load may never be empty.
        let limit = self.quiet.saturating_add(DEADLINE);
        if !self.is_withdrawn && self.started.elapsed() >= limit {
            self.member = None;
            return None;
        }
        loop {
            match take(listener) {
                Taken::Connection(connection) => {
                    // Without steering, connections arrive until the listener closes.
                    if self.is_withdrawn {
                        self.last = Instant::now();
                    }
                    self.failing_since = None;
                    return Some(Ok(connection));
                }
                Taken::Nothing => {
                    self.failing_since = None;
                    if self.last.elapsed() >= self.quiet {
                        self.member = None;
                        return None;
                    }
                    std::thread::sleep(PAUSE);
                }
                Taken::Again => {}
                Taken::Failed(error) => {
                    // Without a free descriptor, an empty queue is an error too.
                    if self.failing_since.get_or_insert_with(Instant::now).elapsed() >= limit {
                        self.member = None;
                        return None;
                    }
                    return Some(Err(error));
                }
            }
        }
    }
}
