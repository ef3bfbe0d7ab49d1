//! OpenBSD: `SO_REUSEPORT`, without balancing: one member gets all.
//!
//! No socket takes both families: IPv6 sockets are always `IPV6_V6ONLY`, ip6(4).

use std::io;

use socket2::SockRef;

use super::{Job, Refusal, kind_of, raw, unsupported};
use crate::support::{DualStack, Exclusive, Joiners, Sharing, Support};

pub(crate) const UNSUPPORTED: &[i32] =
    &[libc::EAFNOSUPPORT, libc::ENOPROTOOPT, libc::EOPNOTSUPP, libc::EPROTONOSUPPORT];

pub(crate) fn support() -> Support {
    Support {
        sharing: Sharing::NotBalanced,
        joiners: Joiners::SameUserOrRoot,
        exclusive: Exclusive::PlainBindExceptSpecific,
        dual_stack: DualStack::TwoSockets,
    }
}

pub(crate) fn share(socket: &SockRef<'_>, _job: &Job) -> io::Result<()> {
    socket.set_reuse_address(false)?;
    socket.set_reuse_port(true)
}

pub(crate) fn waits_for_port(_job: &Job) -> bool {
    false
}

pub(crate) fn exclude(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_reuse_address(false)?;
    socket.set_reuse_port(false)
}

pub(crate) fn device(_socket: &SockRef<'_>, _name: &str, _ipv6: bool) -> io::Result<()> {
    Err(unsupported())
}

/// `SO_BINDANY`, setsockopt(2): needs root.
pub(crate) fn transparent(socket: &SockRef<'_>, _ipv6: bool) -> io::Result<()> {
    raw::set(socket, libc::SOL_SOCKET, libc::SO_BINDANY, 1)
}

/// The same option: it allows any address, here or not.
pub(crate) fn freebind(socket: &SockRef<'_>, ipv6: bool) -> io::Result<()> {
    transparent(socket, ipv6)
}

pub(crate) fn refused(error: &io::Error, _job: &Job) -> Refusal {
    kind_of(error).into()
}
