//! Connections from a local address that is also being listened on: NAT hole punching, and
//! clients that must come from a known port.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{SockRef, Socket};

use crate::error::{Error, ErrorKind, Result};
use crate::open;
use crate::options::Options;
use crate::place::{Endpoint, ToAddress};
use crate::system::{Role, SocketJob};

/// Connects to `to` from the local address `from`, on which shared listeners may be.
///
/// Where either is a name, the first pair of one family that connects is taken, in the resolver's
/// order. A bare port as `from` is that port on whatever local address leads there. Waits as long
/// as the system does, about two minutes on Linux.
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
/// [`Kind::InUse`] if `from` is held by a socket that is not shared (call `bind`), or the two are
/// connected already (call `connect`); [`Kind::InUseByAnotherUser`], [`Kind::AddressNotHere`],
/// [`Kind::NotPermitted`], [`Kind::Refused`], [`Kind::TimedOut`], [`Kind::BadAddress`];
/// [`Kind::Unsupported`] where sharing is.
pub fn connect(from: impl ToAddress, to: impl ToAddress) -> Result<TcpStream> {
    dial(&from.to_place()?, &to.to_place()?, true, Duration::MAX).map(Into::into)
}

/// As [`connect`], for at most `timeout` over all addresses; zero gives up at once.
///
/// # Errors
/// As [`connect`].
pub fn connect_timeout(
    from: impl ToAddress,
    to: impl ToAddress,
    timeout: Duration,
) -> Result<TcpStream> {
    dial(&from.to_place()?, &to.to_place()?, true, timeout).map(Into::into)
}

/// A UDP socket on `from`, on which shared UDP sockets may be, that is connected to `to`: it gets
/// what `to` sends there, and the others the rest.
///
/// Between its `bind` and its `connect`, some microseconds, it is a member like the others: it may
/// hold a datagram from somebody else. `recv_from` tells the sender.
///
/// # Errors
/// As [`connect`], but for the other side, which is not asked.
pub fn connect_udp(from: impl ToAddress, to: impl ToAddress) -> Result<UdpSocket> {
    dial(&from.to_place()?, &to.to_place()?, false, Duration::MAX).map(Into::into)
}

fn dial(from: &Endpoint, to: &Endpoint, tcp: bool, timeout: Duration) -> Result<Socket> {
    let started = Instant::now();
    let local = from.resolve()?;
    let mut last = None;
    for remote in to.resolve()? {
        let Some(local) = local.iter().find(|local| local.is_ipv4() == remote.is_ipv4()) else {
            continue;
        };
        let left = timeout.saturating_sub(started.elapsed());
        match pair(*local, remote, tcp, left) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| {
        Error::new(ErrorKind::BadAddress, "connect", format_args!("{from} to {to}"))
            .noting("the two have no address of the same family")
    }))
}

fn pair(local: SocketAddr, remote: SocketAddr, tcp: bool, timeout: Duration) -> Result<Socket> {
    // A local address that the caller left to the system is none of the story.
    let both = match local.ip().is_unspecified() && local.port() == 0 {
        true => remote.to_string(),
        false => format!("{local} to {remote}"),
    };
    if tcp && local == remote {
        // TCP allows it: the socket would be connected to itself.
        return Err(Error::new(ErrorKind::BadAddress, "connect", both)
            .noting("a connection cannot have the same address at both ends"));
    }
    // A caller never takes the other family's traffic, so it collides with nobody there.
    let mapped = matches!(local.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    let v6only = local.is_ipv6() && !mapped;
    let job = SocketJob { role: Role::Caller, tcp, address: local, v6only };
    let socket = open::make(&job)?;
    if local.port() == 0 {
        // A port that the system picks is nobody else's: there is nothing to share.
        socket.bind(&local.into()).map_err(|os| open::bind_error(&job, os))?;
    } else {
        let options = Options::shared();
        open::put(&options, &SockRef::from(&socket), &job)?;
        open::bind(&options, &socket, &job)?;
    }
    let connected = if tcp {
        socket.connect_timeout(&remote.into(), timeout)
    } else {
        socket.connect(&remote.into())
    };
    let wildcard = SocketAddr::from((Ipv6Addr::UNSPECIFIED, local.port()));
    connected.map_err(|os| {
        let error = Error::os("connect", both, os);
        match error.kind() {
            // The local address was here a moment ago: it is the pair that is taken. From the IPv6
            // wildcard it can also mean that no address of this machine leads there.
            ErrorKind::AddressNotHere if local.port() != 0 && local != wildcard => {
                error.of_kind(ErrorKind::InUse)
            }
            _ => error,
        }
    })?;
    Ok(socket)
}
