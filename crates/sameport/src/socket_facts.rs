//! Facts about an existing socket, read from the socket itself.

use std::io;
use std::net::SocketAddr;

use socket2::{SockRef, Type};

use crate::system::{Here, System};

/// The address family of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
    Unix,
    Other,
}

/// The facts about a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketFacts {
    pub(crate) family: Family,
    /// A stream, if true; a datagram socket, if false; `None` for other types.
    pub(crate) stream: Option<bool>,
    /// The address that the socket is bound to, if any.
    pub(crate) local: Option<SocketAddr>,
    /// The address that the socket is connected to, if any.
    pub(crate) peer: Option<SocketAddr>,
    /// `None` where the system does not tell.
    pub(crate) listening: Option<bool>,
    /// Whether the socket has the system's option for sharing; `None` where the system has none.
    pub(crate) shared: Option<bool>,
}

impl SocketFacts {
    /// Reads the facts.
    ///
    /// # Errors
    ///
    /// If the descriptor is not a socket.
    pub(crate) fn of(socket: &SockRef<'_>) -> io::Result<Self> {
        let r#type = socket.r#type()?;
        let stream = match r#type {
            Type::STREAM => Some(true),
            Type::DGRAM => Some(false),
            _ => None,
        };
        let (family, local) = match socket.local_addr() {
            Ok(address) => match address.as_socket() {
                Some(local) if local.is_ipv4() => (Family::Ipv4, Some(local)),
                Some(local) => (Family::Ipv6, Some(local)),
                None if address.is_unix() => (Family::Unix, None),
                None => (Family::Other, None),
            },
            // Windows, before `bind`. Only IPv6 sockets have the option.
            Err(_) if socket.only_v6().is_ok() => (Family::Ipv6, None),
            Err(_) => (Family::Ipv4, None),
        };
        Ok(Self {
            family,
            stream,
            local: local.filter(|local| local.port() != 0 || !local.ip().is_unspecified()),
            peer: socket.peer_addr().ok().and_then(|peer| peer.as_socket()),
            listening: Here::is_listening(socket).ok(),
            shared: Here::is_shared(socket).ok(),
        })
    }
}
