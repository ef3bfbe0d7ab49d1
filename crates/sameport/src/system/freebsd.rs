//! FreeBSD: `SO_REUSEPORT_LB` (FreeBSD 12), balanced by a hash; plain `SO_REUSEPORT` before that.
//!
//! Read in `sys/netinet/in_pcb.c` and `sys/netinet6/in6_pcb.c`, not run:
//!
//! - A listener gets both options. Two sockets may meet when they have either in common, so a
//!   caller's socket, with `SO_REUSEPORT` alone, may be bound to a listener's address; with
//!   `SO_REUSEPORT_LB` it would be put into the balancing group at `bind` and draw connections
//!   that it cannot accept.
//! - Both options also close the hole of FreeBSD 12 to 14, where another user could join a
//!   wildcard socket that had `SO_REUSEPORT_LB` and not `SO_REUSEPORT`.
//! - An IPv6 wildcard that takes IPv4 is never put into a balancing group.

use std::io;

use socket2::{Domain, SockRef, Socket, Type};

use super::{Job, Refusal, Role, kind_of, raw, unsupported};
use crate::support::{DualStack, Exclusive, Joiners, Sharing, Support};

pub(crate) const UNSUPPORTED: &[i32] =
    &[libc::EAFNOSUPPORT, libc::ENOPROTOOPT, libc::EOPNOTSUPP, libc::EPROTONOSUPPORT];

pub(crate) fn support() -> Support {
    Support {
        sharing: probe(),
        joiners: Joiners::SameUserOrRoot,
        exclusive: Exclusive::PlainBindExceptSpecific,
        dual_stack: DualStack::OneSocketNotBalanced,
    }
}

/// Asks a socket of its own, which is never bound.
fn probe() -> Sharing {
    let asked = Socket::new(Domain::IPV4, Type::STREAM, None)
        .and_then(|socket| socket.set_reuse_port_lb(true));
    match asked {
        Ok(()) => Sharing::Balanced,
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Sharing::NotBalanced,
        Err(_) => Sharing::CouldNotTell,
    }
}

pub(crate) fn share(socket: &SockRef<'_>, job: &Job) -> io::Result<()> {
    socket.set_reuse_address(false)?;
    socket.set_reuse_port(true)?;
    if job.role == Role::Caller {
        return Ok(());
    }
    match socket.set_reuse_port_lb(true) {
        // FreeBSD 11 and older; who must have balance asked `support` first.
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        result => result,
    }
}

pub(crate) fn waits_for_port(_job: &Job) -> bool {
    false
}

pub(crate) fn exclude(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_reuse_address(false)?;
    socket.set_reuse_port(false)?;
    match socket.set_reuse_port_lb(false) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        result => result,
    }
}

pub(crate) fn device(_socket: &SockRef<'_>, _name: &str, _ipv6: bool) -> io::Result<()> {
    Err(unsupported())
}

/// `IP_BINDANY`, ip(4): needs the privilege PRIV_NETINET_BINDANY.
pub(crate) fn transparent(socket: &SockRef<'_>, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        raw::set(socket, libc::IPPROTO_IPV6, libc::IPV6_BINDANY, 1)
    } else {
        raw::set(socket, libc::IPPROTO_IP, libc::IP_BINDANY, 1)
    }
}

/// The same option: it allows any address, here or not.
pub(crate) fn freebind(socket: &SockRef<'_>, ipv6: bool) -> io::Result<()> {
    transparent(socket, ipv6)
}

pub(crate) fn refused(error: &io::Error, _job: &Job) -> Refusal {
    kind_of(error).into()
}
