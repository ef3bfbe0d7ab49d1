//! One passed socket.

use std::fmt;
use std::net::{SocketAddr, TcpListener, UdpSocket};
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{SockRef, Socket};

use super::compare::Found;
use crate::endpoint::{Endpoint, ResolvedAddr, ToAddress};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::open;
use crate::options::Options;
use crate::socket_job::Role;

/// One of the [`PassedSockets`](crate::PassedSockets): a TCP or UDP socket, or any other descriptor.
#[derive(Debug)]
pub struct PassedSocket {
    name: String,
    number: i32,
    socket: Socket,
    /// `None` if the descriptor is not a socket.
    found: Option<Found>,
}

impl PassedSocket {
    pub(super) fn new(name: String, number: i32, socket: Socket) -> Self {
        let found = Found::of(&SockRef::from(&socket));
        Self { name, number, socket, found }
    }

    /// Whether the socket has one of these addresses.
    pub(super) fn is_at(&self, asked: &[ResolvedAddr]) -> bool {
        self.found.as_ref().is_some_and(|found| found.is_at(asked))
    }

    /// The name, from `LISTEN_FDNAMES`; `unknown` if the parent gave no names.
    ///
    /// ```
    /// for socket in &sameport::PassedSockets::take()? {
    ///     println!("{}", socket.name());
    /// }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of the descriptor, from 3 up.
    ///
    /// ```
    /// for socket in &sameport::PassedSockets::take()? {
    ///     assert!(socket.number() >= 3);
    /// }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn number(&self) -> i32 {
        self.number
    }

    /// The address that the socket is bound to, if it is an IPv4 or IPv6 one.
    ///
    /// ```
    /// for socket in &sameport::PassedSockets::take()? {
    ///     if let Some(address) = socket.local_addr() {
    ///         println!("{} has {address}", socket.name());
    ///     }
    /// }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.found.as_ref()?.facts.local
    }

    /// Whether this is a listening TCP socket.
    ///
    /// ```
    /// for socket in &sameport::PassedSockets::take()? {
    ///     if !socket.is_listener() {
    ///         println!("{socket} is no listener");
    ///     }
    /// }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn is_listener(&self) -> bool {
        self.found.as_ref().is_some_and(|found| {
            let facts = &found.facts;
            facts.local.is_some() && facts.stream == Some(true) && facts.listening == Some(true)
        })
    }

    /// Whether this is a bound UDP socket.
    ///
    /// ```
    /// for socket in &sameport::PassedSockets::take()? {
    ///     if socket.is_udp() {
    ///         println!("{socket}");
    ///     }
    /// }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn is_udp(&self) -> bool {
        self.found
            .as_ref()
            .is_some_and(|found| found.facts.local.is_some() && found.facts.stream == Some(false))
    }

    /// Whether the socket is shared: `ReusePort=` of a socket unit. False where the system shares none.
    ///
    /// ```
    /// for socket in &sameport::PassedSockets::take()? {
    ///     if !socket.is_shared() {
    ///         println!("{socket}: add ReusePort=yes to the socket unit");
    ///     }
    /// }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.found.as_ref().is_some_and(|found| found.facts.shared == Some(true))
    }

    /// Whether this is the socket that was asked for: that [`Options::listen`] or
    /// [`Options::bind_udp`] would open.
    ///
    /// Compares the address, both families or one, shared or exclusive, and the device; that a TCP
    /// socket listens, and that no socket is connected; and that `transparent` and `freebind` are set if
    /// they are asked for. Port 0 is any port. The backlog cannot be read.
    ///
    /// ```
    /// for socket in &sameport::PassedSockets::take()? {
    ///     socket.check(&sameport::Options::shared(), "*:8080")?;
    /// }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongSocket`]; the text names everything that differs. [`ErrorKind::BadAddress`] if
    /// `address` is none.
    pub fn check(&self, options: &Options, address: impl ToAddress) -> Result<()> {
        let endpoint = address.to_endpoint()?;
        self.compare(options, &endpoint, &endpoint.resolve()?)
    }

    pub(super) fn compare(
        &self,
        options: &Options,
        endpoint: &Endpoint,
        resolved: &[ResolvedAddr],
    ) -> Result<()> {
        let Some(found) = &self.found else {
            return Err(wrong(endpoint, format!("{self}")));
        };
        let differences = found.differences(options, resolved);
        if !differences.is_empty() {
            let note = format!("{self} differs: {}", differences.join("; "));
            return Err(wrong(endpoint, note));
        }
        let Some(local) = found.facts.local else { return Ok(()) };
        let role = if found.facts.stream == Some(true) { Role::Listener } else { Role::Datagram };
        open::check(options, &open::job(options, role, local))
    }

    /// The socket as a listener of std.
    ///
    /// ```
    /// for socket in sameport::PassedSockets::take()? {
    ///     if socket.name() == "web" {
    ///         let listener = socket.into_listener()?;
    ///         # drop(listener);
    ///     }
    /// }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongSocket`] if it is not a listening TCP socket. The socket is closed then.
    pub fn into_listener(self) -> Result<TcpListener> {
        if !self.is_listener() {
            return Err(wrong(&self, "not a listening TCP socket".to_owned()));
        }
        Ok(self.socket.into())
    }

    /// The socket as a UDP socket of std.
    ///
    /// Clears `SO_REUSEADDR`, which systemd sets on every socket: with it, a UDP socket of any user
    /// could take the datagrams of a shared one.
    ///
    /// ```
    /// for socket in sameport::PassedSockets::take()? {
    ///     if socket.name() == "dns" {
    ///         let socket = socket.into_udp()?;
    ///         # drop(socket);
    ///     }
    /// }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongSocket`] if it is not a bound UDP socket. The socket is closed then.
    pub fn into_udp(self) -> Result<UdpSocket> {
        if !self.is_udp() {
            return Err(wrong(&self, "not a UDP socket".to_owned()));
        }
        self.socket
            .set_reuse_address(false)
            .map_err(|os| Error::os("setsockopt(SO_REUSEADDR)", &self, os))?;
        Ok(self.socket.into())
    }
}

/// `descriptor 3 (web), 127.0.0.1:8080`, or the type of another descriptor.
impl fmt::Display for PassedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "descriptor {} ({}), ", self.number, self.name.escape_debug())?;
        let Some(found) = &self.found else {
            return f.write_str("not a socket");
        };
        match (found.facts.local, found.facts.stream) {
            (None, _) => f.write_str("not a bound IP socket"),
            (Some(local), Some(true)) => write!(f, "TCP {local}"),
            (Some(local), Some(false)) => write!(f, "UDP {local}"),
            (Some(local), None) => write!(f, "{local}"),
        }
    }
}

/// For options that this crate does not compare.
#[cfg(unix)]
impl AsFd for PassedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// For sockets that are neither TCP listeners nor UDP sockets.
#[cfg(unix)]
impl From<PassedSocket> for OwnedFd {
    fn from(socket: PassedSocket) -> Self {
        socket.socket.into()
    }
}

pub(super) fn wrong(address: &dyn fmt::Display, note: String) -> Error {
    Error::new(ErrorKind::WrongSocket, "LISTEN_FDS", address).with_note(note)
}
