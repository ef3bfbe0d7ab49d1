//! One file per system. This is the contract that each of them keeps; nothing outside this folder
//! asks which system it is on, but for the name of std's trait for handles.
//!
//! A file provides:
//!
//! - `support() -> Support`: the truth about this system, found out once per call where it has to
//!   be probed (FreeBSD), constant elsewhere.
//! - `share(socket, job)`: make the socket of this job one that others may join, or that may join
//!   others. Called before `bind`, as a rule. Clears what would let *more* in than sharing must
//!   (on all but Windows: `SO_REUSEADDR`).
//! - `waits_for_port(job)`: whether a shared socket must not have its option until it is bound,
//!   so that a port of the system's choice is nobody else's. If so, `exclude` is called before
//!   `bind` and `share` right after it.
//! - `exclude(socket)`: nobody may join: the system's exclusive option where there is one, and no
//!   sharing option left from the caller. Called before `bind`.
//! - `device(socket, name, ipv6)`, `transparent(socket, ipv6)`, `freebind(socket, ipv6)`: that
//!   option, or an error of kind [`io::ErrorKind::Unsupported`]. Never nothing.
//! - `refused(error, job) -> Refusal`: why `bind` or `listen` failed, as far as it can be told.
//! - `UNSUPPORTED`: the raw error numbers that mean "this system has no such family or option".
//!
//! Where sharing itself does not exist, `share` fails with [`io::ErrorKind::Unsupported`]. Each
//! call is one option on one socket: no file here opens, binds or prints anything, except that
//! FreeBSD probes on a socket of its own and Linux reads `/proc/net` once a bind was refused.

use std::io;
use std::net::SocketAddr;

use crate::error::ErrorKind;

#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "linux.rs"]
mod here;
#[cfg(target_os = "freebsd")]
#[path = "freebsd.rs"]
mod here;
#[cfg(target_os = "dragonfly")]
#[path = "dragonfly.rs"]
mod here;
#[cfg(target_vendor = "apple")]
#[path = "macos.rs"]
mod here;
#[cfg(target_os = "netbsd")]
#[path = "netbsd.rs"]
mod here;
#[cfg(target_os = "openbsd")]
#[path = "openbsd.rs"]
mod here;
#[cfg(any(target_os = "illumos", target_os = "solaris"))]
#[path = "illumos.rs"]
mod here;
#[cfg(windows)]
#[path = "windows.rs"]
mod here;
#[cfg(not(any(
    windows,
    target_vendor = "apple",
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "illumos",
    target_os = "solaris",
)))]
#[path = "other.rs"]
mod here;

#[cfg(any(
    windows,
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "openbsd",
    target_os = "illumos",
    target_os = "solaris",
))]
mod raw;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod proc_net;

pub(crate) use here::{
    UNSUPPORTED, device, exclude, freebind, refused, share, support, transparent, waits_for_port,
};

/// What a socket is going to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A TCP listener.
    Listener,
    /// A UDP socket that anyone may send to.
    Datagrams,
    /// The calling end of a TCP connection or a connected UDP socket, from an address that a
    /// listener or another UDP socket may be on.
    Caller,
}

/// One socket to be bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketJob {
    /// What it is for.
    pub(crate) role: Role,
    /// TCP rather than UDP.
    pub(crate) tcp: bool,
    /// Where it is to be bound.
    pub(crate) address: SocketAddr,
    /// Whether it takes no IPv4 (`IPV6_V6ONLY`); false for IPv4 addresses.
    pub(crate) v6only: bool,
}

impl SocketJob {
    /// The IPv6 wildcard that takes IPv4 too.
    pub(crate) fn is_dual_stack(&self) -> bool {
        self.address.is_ipv6() && self.address.ip().is_unspecified() && !self.v6only
    }
}

/// Why a bind was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BindRefusal {
    pub(crate) kind: ErrorKind,
    /// The owner of the socket in the way, where the system tells.
    pub(crate) uid: Option<u32>,
    /// What the kind alone does not say.
    pub(crate) note: Option<&'static str>,
}

impl From<ErrorKind> for BindRefusal {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, uid: None, note: None }
    }
}

/// The answer of a system that lacks an option.
#[allow(dead_code, reason = "some systems have every option")]
fn unsupported() -> io::Error {
    io::Error::from(io::ErrorKind::Unsupported)
}

/// The kind that an error number has everywhere.
pub(crate) fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::AddrInUse => ErrorKind::InUse,
        io::ErrorKind::AddrNotAvailable => ErrorKind::AddressNotHere,
        io::ErrorKind::PermissionDenied => ErrorKind::NotPermitted,
        io::ErrorKind::ConnectionRefused => ErrorKind::Refused,
        io::ErrorKind::TimedOut => ErrorKind::TimedOut,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ if error.raw_os_error().is_some_and(|os| UNSUPPORTED.contains(&os)) => {
            ErrorKind::Unsupported
        }
        _ => ErrorKind::Other,
    }
}
