//! macOS and its relatives: `SO_REUSEPORT`, without balancing: one member gets all.
//!
//! Another user may join a shared wildcard address, read in `bsd/netinet/in_pcb.c`: the check of
//! users is left out when both are wildcards.

use std::io;

use socket2::SockRef;

use super::{Job, Refusal, kind_of, raw, unsupported};
use crate::support::{DualStack, Exclusive, Joiners, Sharing, Support};

pub(crate) const UNSUPPORTED: &[i32] = &[
    libc::EAFNOSUPPORT,
    libc::ENOPROTOOPT,
    libc::EOPNOTSUPP,
    libc::ENOTSUP,
    libc::EPROTONOSUPPORT,
];

pub(crate) fn support() -> Support {
    Support {
        sharing: Sharing::NotBalanced,
        joiners: Joiners::AnyUserOnWildcard,
        exclusive: Exclusive::PlainBindExceptSpecific,
        dual_stack: DualStack::OneSocket,
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

/// `IP_BOUND_IF`, `IPV6_BOUND_IF`: unprivileged.
pub(crate) fn device(socket: &SockRef<'_>, name: &str, ipv6: bool) -> io::Result<()> {
    let index = Some(raw::device_index(name)?);
    if ipv6 { socket.bind_device_by_index_v6(index) } else { socket.bind_device_by_index_v4(index) }
}

pub(crate) fn transparent(_socket: &SockRef<'_>, _ipv6: bool) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn freebind(_socket: &SockRef<'_>, _ipv6: bool) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn refused(error: &io::Error, _job: &Job) -> Refusal {
    kind_of(error).into()
}
