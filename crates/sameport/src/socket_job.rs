//! One socket to be bound, and the reason why the system refused the bind.

use std::io;
use std::net::SocketAddr;

use crate::error_kind::ErrorKind;

/// The purpose of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A TCP listener.
    Listener,
    /// A UDP socket that receives from any peer.
    Datagram,
    /// A connecting TCP socket or a connected UDP socket, on a local address that a listener or
    /// another UDP socket can have too.
    Client,
}

/// One socket to be bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketJob {
    pub(crate) role: Role,
    /// TCP if true, UDP if false.
    pub(crate) tcp: bool,
    /// The local address.
    pub(crate) address: SocketAddr,
    /// Whether the socket excludes IPv4 (`IPV6_V6ONLY`); false for IPv4 addresses.
    pub(crate) v6only: bool,
}

impl SocketJob {
    /// Whether the address is the IPv6 wildcard address, for IPv4 too.
    pub(crate) fn is_dual_stack(&self) -> bool {
        self.address.is_ipv6() && self.address.ip().is_unspecified() && !self.v6only
    }
}

/// The reason why `bind` or `listen` failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BindRefusal {
    pub(crate) kind: ErrorKind,
    /// The owner of the conflicting socket, where the system reports it.
    pub(crate) uid: Option<u32>,
    /// A message that is more specific than the kind.
    pub(crate) note: Option<&'static str>,
}

impl From<ErrorKind> for BindRefusal {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, uid: None, note: None }
    }
}

/// A call on a new listener that failed.
#[derive(Debug)]
pub(crate) struct FailedCall {
    pub(crate) call: &'static str,
    pub(crate) os: io::Error,
    /// The reason, where it is known without [`crate::system::System::explain`].
    pub(crate) refusal: Option<BindRefusal>,
}

impl FailedCall {
    /// For `map_err`.
    pub(crate) fn of(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |os| Self { call, os, refusal: None }
    }
}
