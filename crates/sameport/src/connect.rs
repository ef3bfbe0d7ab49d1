//! Connections from the local address of a listener, for NAT hole punching and for clients that need
//! a fixed source port.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{SockRef, Socket};

use crate::endpoint::{Endpoint, ResolvedAddr, ToAddress};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::open;
use crate::options::Options;
use crate::pairs::{self, Pair};
use crate::socket_job::{Role, SocketJob};

/// Connects from the local address `from`, which shared listeners can have too, to `to`.
///
/// For names, returns the first connection between two addresses of one family, in the resolver's
/// order. For a bare port or `[::]:port` as `from`, the system chooses the local address by the
/// route, and `to` can have either family. Waits as long as the system does: about 2 minutes on
/// Linux.
///
/// ```
/// # let far = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// # let far = far.local_addr().unwrap();
/// let near = sameport::listen("127.0.0.1:0")?;
/// let from = near.local_addr().unwrap();
/// let stream = sameport::connect(from, far)?;
/// assert_eq!(stream.local_addr().unwrap(), from);
/// # Ok::<(), sameport::Error>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::InUse`] if a socket that is not shared has `from` ([`Error::call`] is `bind`), or
/// if the pair of addresses is already connected (`connect`); [`ErrorKind::BadAddress`] if no two
/// addresses are of one family, such as `0.0.0.0:80` and `[::1]:80`; [`ErrorKind::Unsupported`]
/// where sharing is unsupported; and all other kinds except `SharedByOthers` and `WrongSocket`.
#[doc(alias = "bindp")]
pub fn connect(from: impl ToAddress, to: impl ToAddress) -> Result<TcpStream> {
    dial(&from.to_endpoint()?, &to.to_endpoint()?, Duration::MAX).map(Into::into)
}

/// As [`connect`], for at most `timeout` over all addresses; zero fails at once.
///
/// ```
/// use std::time::Duration;
///
/// let server = sameport::listen("127.0.0.1:0")?;
/// let second = Duration::from_secs(1);
/// let client = sameport::connect_timeout("127.0.0.1:0", server.local_addr()?, second)?;
/// assert_eq!(client.peer_addr()?, server.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`connect`].
pub fn connect_timeout(
    from: impl ToAddress,
    to: impl ToAddress,
    timeout: Duration,
) -> Result<TcpStream> {
    dial(&from.to_endpoint()?, &to.to_endpoint()?, timeout).map(Into::into)
}

/// Opens a UDP socket on the local address `from`, which shared UDP sockets can have too, and
/// connects it to `to`. It receives the datagrams from `to`; the other sockets receive the rest.
///
/// Between `bind` and `connect`, for some microseconds, the socket is a member of the group and can
/// receive a datagram from another sender: check the sender with `recv_from`.
///
/// ```
/// let server = sameport::bind_udp("127.0.0.1:0")?;
/// let client = sameport::connect_udp("127.0.0.1:0", server.local_addr()?)?;
/// client.send(b"hello")?;
/// assert_eq!(server.recv_from(&mut [0; 8])?.1, client.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`connect`], except for errors of the peer, which is not contacted.
pub fn connect_udp(from: impl ToAddress, to: impl ToAddress) -> Result<UdpSocket> {
    first(&from.to_endpoint()?, &to.to_endpoint()?, connect_datagram).map(Into::into)
}

fn dial(from: &Endpoint, to: &Endpoint, timeout: Duration) -> Result<Socket> {
    let started = Instant::now();
    first(from, to, |pair| connect_stream(pair, timeout.saturating_sub(started.elapsed())))
}

/// The first connection that `connect` makes.
fn first(
    from: &Endpoint,
    to: &Endpoint,
    connect: impl Fn(&Pair) -> Result<Socket>,
) -> Result<Socket> {
    let mut last = None;
    for pair in pairs(from, &from.resolve()?, to, &to.resolve()?)? {
        match connect(&pair) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| no_pair(from, to)))
}

/// The pairs to try one after the other, at least one.
pub(crate) fn pairs(
    from: &Endpoint,
    local: &[ResolvedAddr],
    to: &Endpoint,
    remote: &[ResolvedAddr],
) -> Result<Vec<Pair>> {
    pairs::pairs(local, remote).map_err(|note| no_pair(from, to).with_note(note))
}

pub(crate) fn no_pair(from: &Endpoint, to: &Endpoint) -> Error {
    Error::new(ErrorKind::BadAddress, "connect", format_args!("{from} to {to}"))
}

/// The error of an attempt that took too long: while it tried a pair, or resolved a name.
#[cfg(feature = "tokio-time")]
pub(crate) fn timed_out(from: &Endpoint, to: &Endpoint, attempt: Option<Pair>) -> Error {
    match attempt {
        Some(pair) => Error::new(ErrorKind::TimedOut, "connect", pair),
        None => Error::new(ErrorKind::TimedOut, "resolve", format_args!("{from} to {to}")),
    }
}

fn connect_stream(pair: &Pair, timeout: Duration) -> Result<Socket> {
    let socket = pair.bind(true)?;
    let connected = socket.connect_timeout(&pair.remote.into(), timeout);
    connected.map_err(|os| pair.connect_error(os)).map(|()| socket)
}

pub(crate) fn connect_datagram(pair: &Pair) -> Result<Socket> {
    let socket = pair.bind(false)?;
    let connected = socket.connect(&pair.remote.into());
    connected.map_err(|os| pair.connect_error(os)).map(|()| socket)
}

impl Pair {
    /// A socket on the local address, not connected yet.
    pub(crate) fn bind(&self, tcp: bool) -> Result<Socket> {
        let local = self.local;
        if tcp && local == self.remote {
            // TCP would connect the socket to itself.
            return Err(Error::new(ErrorKind::BadAddress, "connect", self)
                .with_note("a connection cannot have the same address at both ends"));
        }
        // A client receives traffic of one family only, so it excludes the other one.
        let v6only = local.is_ipv6() && !open::is_mapped(local);
        let job = SocketJob { role: Role::Client, tcp, address: local, v6only };
        let socket = open::create(&job)?;
        if local.port() == 0 {
            // The system chooses a free port, so sharing is not needed.
            socket.bind(&local.into()).map_err(|os| open::bind_error(&job, os))?;
        } else {
            let options = Options::shared();
            open::set_options(&options, &SockRef::from(&socket), &job)?;
            open::bind(&options, &socket, &job)?;
        }
        Ok(socket)
    }

    pub(crate) fn connect_error(&self, os: io::Error) -> Error {
        let wildcard = SocketAddr::from((Ipv6Addr::UNSPECIFIED, self.local.port()));
        let error = Error::os("connect", self, os);
        match error.kind() {
            // The local address exists, because `bind` succeeded, so the pair is already
            // connected. From the IPv6 wildcard address, the error can also mean that there is no
            // route.
            ErrorKind::AddressNotHere if self.local.port() != 0 && self.local != wildcard => {
                error.with_kind(ErrorKind::InUse)
            }
            _ => error,
        }
    }
}
