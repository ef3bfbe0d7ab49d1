//! Closing one listener without losing the connections that wait in it.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::error::{Error, Result};
use crate::system::{Here, System};

/// The default of [`Drain::deadline`].
const DEADLINE: Duration = Duration::from_secs(10);

/// The pause between two looks at an empty queue, and after an error such as too many open files.
pub(crate) const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

/// Takes the connections that wait in a listener, and closes it when none is left.
///
/// A connection is established, and the client can have sent its request, before `accept` returns it.
/// When a listener closes, the system resets the connections that still wait in it, also if other
/// listeners share the address. The iterator returns them instead, and closes the listener at the
/// first moment at which its queue is empty:
///
/// ```
/// let listener = sameport::listen_exclusive("127.0.0.1:0")?;
/// let client = std::net::TcpStream::connect(listener.local_addr()?)?;
///
/// let mut answered = 0;
/// for connection in sameport::drain(listener) {
///     let (stream, _peer) = connection?;
///     // Answer.
/// #   drop(stream);
///     answered += 1;
/// }
/// assert_eq!(answered, 1);
/// # drop(client);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Stop accepting elsewhere first. The listener can be blocking or not; it becomes non-blocking,
/// and so do its clones, which keep the socket open. The iterator blocks its thread, and the
/// streams are blocking. A listener of tokio comes from `into_std`, and a member of a set has
/// [`Member::drain`](crate::Member::drain).
///
/// # What is left
///
/// A connection that is established between the last `accept` and the close is reset: a few
/// microseconds, or more on a busy machine. So is one whose handshake is in progress.
///
/// - [`Drain::hold_off`] closes this window on Linux, at the price of a second for the clients that
///   would have come in it.
/// - `net.ipv4.tcp_migrate_req=1` (Linux 5.14, ip-sysctl.rst; 0 by default, per network namespace)
///   makes the kernel move waiting connections and handshakes in progress to another listener of the
///   group (`SO_REUSEPORT`), also on a plain close. It does nothing for the last listener, nor for an
///   exclusive one.
///
/// `docs/platforms.md` has figures.
///
/// Under a load that never leaves the queue empty, [`Drain::deadline`] ends the iterator, after 10
/// seconds by default.
///
/// # Errors
///
/// An item is an error if `accept` fails, for example for lack of file descriptors. The iterator
/// continues after a pause of 10 ms: the connection still waits, and the next item can be it. Without
/// a free descriptor the system does not tell whether the queue is empty, so that errors can follow
/// until the deadline.
pub fn drain(listener: TcpListener) -> Drain {
    Drain {
        listener: Some(listener),
        limit: DEADLINE,
        most: usize::MAX,
        quiet: Duration::ZERO,
        started: None,
        last: Instant::now(),
        end: None,
    }
}

/// The connections that a listener still has before it closes: [`drain`].
///
/// Dropping the iterator closes the listener, and resets what waits in it.
#[derive(Debug)]
#[must_use = "the listener closes, and resets what waits in it, when the iterator is dropped"]
pub struct Drain {
    listener: Option<TcpListener>,
    limit: Duration,
    most: usize,
    /// Time without a connection before an empty queue counts.
    quiet: Duration,
    started: Option<Instant>,
    /// When the last connection was returned.
    last: Instant,
    end: Option<DrainEnd>,
}

/// Why a listener was closed: [`Drain::end`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DrainEnd {
    /// No connection waited any more.
    Empty,
    /// [`Drain::deadline`] or [`Drain::at_most`] was reached. Connections that still waited were
    /// reset.
    Limit,
}

impl Drain {
    /// The time from the first call of `next` after which the listener closes even if connections
    /// wait in it, 10 seconds by default. It bounds the number of connections under a constant load.
    ///
    /// The time that the caller spends on each connection counts: hand connections to threads or
    /// tasks.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let listener = sameport::listen_exclusive("127.0.0.1:0")?;
    /// let mut drain = sameport::drain(listener).deadline(Duration::from_secs(2)).at_most(1000);
    /// assert!(drain.next().is_none());
    /// assert_eq!(drain.end(), Some(sameport::DrainEnd::Empty));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn deadline(mut self, after: Duration) -> Self {
        self.limit = after;
        self
    }

    /// The number of connections after which the listener closes even if more wait in it; no limit by
    /// default.
    ///
    /// ```
    /// let listener = sameport::listen_exclusive("127.0.0.1:0")?;
    /// let client = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// assert_eq!(sameport::drain(listener).at_most(1).count(), 1);
    /// # drop(client);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn at_most(mut self, connections: usize) -> Self {
        self.most = connections;
        self
    }

    /// Lets no new connection in from now on, and closes the listener only after none has arrived for
    /// `quiet`: handshakes in progress complete in that time. A few round-trip times of the clients;
    /// zero on loopback.
    ///
    /// Linux only, unprivileged. A filter on the socket (`SO_ATTACH_FILTER`, socket(7)) drops the first
    /// packet of new connections. Their clients send it again after a second, and then reach another
    /// listener of the address, or are refused. No connection is lost. The listener must be the only
    /// handle of its socket: clones, in this process or another one, would receive nothing any more.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// # use std::time::Duration;
    /// let leaving = sameport::listen("127.0.0.1:0")?;
    /// let _staying = sameport::listen(leaving.local_addr().unwrap())?;
    /// for connection in sameport::drain(leaving).hold_off(Duration::from_millis(50))? {
    ///     let (_stream, _peer) = connection.unwrap();
    /// }
    /// # }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on other systems,
    /// [`ErrorKind::NotPermitted`](crate::ErrorKind::NotPermitted) in a sandbox that refuses
    /// the call. The listener is closed then.
    #[doc(alias = "SO_ATTACH_FILTER")]
    pub fn hold_off(mut self, quiet: Duration) -> Result<Self> {
        self.quiet = quiet;
        if let Some(listener) = &self.listener {
            Here::drop_new_connections(&SockRef::from(listener)).map_err(|os| {
                match listener.local_addr() {
                    Ok(address) => Error::os("setsockopt(filter)", address, os),
                    Err(_) => Error::os("setsockopt(filter)", "listener", os),
                }
            })?;
        }
        Ok(self)
    }

    /// Why the listener was closed; `None` while it is open.
    ///
    /// ```
    /// use sameport::DrainEnd;
    ///
    /// let mut drain = sameport::drain(sameport::listen_exclusive("127.0.0.1:0")?);
    /// assert_eq!(drain.by_ref().count(), 0);
    /// assert_eq!(drain.end(), Some(DrainEnd::Empty));
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn end(&self) -> Option<DrainEnd> {
        self.end
    }

    fn finish<T>(&mut self, end: DrainEnd) -> Option<T> {
        self.listener = None;
        self.end = Some(end);
        None
    }
}

impl Iterator for Drain {
    type Item = io::Result<(TcpStream, SocketAddr)>;

    fn next(&mut self) -> Option<Self::Item> {
        let listener = self.listener.as_ref()?;
        let started = match self.started {
            Some(started) => started,
            None => {
                self.last = Instant::now();
                if let Err(error) = listener.set_nonblocking(true) {
                    self.finish::<()>(DrainEnd::Limit);
                    return Some(Err(error));
                }
                *self.started.insert(self.last)
            }
        };
        loop {
            if self.most == 0 || started.elapsed() >= self.limit {
                return self.finish(DrainEnd::Limit);
            }
            match take(listener) {
                Taken::Connection(connection) => {
                    self.most -= 1;
                    self.last = Instant::now();
                    return Some(Ok(connection));
                }
                Taken::Failed(error) => return Some(Err(error)),
                Taken::Again => {}
                Taken::Nothing => {
                    if self.last.elapsed() >= self.quiet {
                        return self.finish(DrainEnd::Empty);
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }
}

impl std::iter::FusedIterator for Drain {}

/// The result of one `accept` of a non-blocking listener.
pub(crate) enum Taken {
    /// A blocking stream, and its peer.
    Connection((TcpStream, SocketAddr)),
    /// No connection waits.
    Nothing,
    /// A signal, or a client that has gone: others can wait.
    Again,
    /// Any other error, after a pause.
    Failed(io::Error),
}

/// Takes a connection that waits in a non-blocking listener.
pub(crate) fn take(listener: &TcpListener) -> Taken {
    // The stream inherits the mode of the listener on some systems.
    let accepted = listener
        .accept()
        .and_then(|(stream, peer)| stream.set_nonblocking(false).map(|()| (stream, peer)));
    match accepted {
        Ok(connection) => Taken::Connection(connection),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => Taken::Nothing,
            io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => Taken::Again,
            _ => {
                std::thread::sleep(PAUSE_AFTER_ERROR);
                Taken::Failed(error)
            }
        },
    }
}
