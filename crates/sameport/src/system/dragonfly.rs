//! DragonFly: `SO_REUSEPORT`, balanced by a hash since 3.6.
//!
//! No socket takes both families: clearing `IPV6_V6ONLY` fails with EOPNOTSUPP, ip6(4).

use std::io;

use socket2::SockRef;

use super::{Job, Refusal, kind_of, unsupported};
use crate::support::{DualStack, Exclusive, Joiners, Sharing, Support};

/// EAFNOSUPPORT, ENOPROTOOPT, EOPNOTSUPP and EPROTONOSUPPORT of `sys/errno.h`.
pub(crate) const UNSUPPORTED: &[i32] = &[47, 42, 45, 43];

pub(crate) fn support() -> Support {
    Support {
        sharing: Sharing::Balanced,
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

pub(crate) fn transparent(_socket: &SockRef<'_>, _ipv6: bool) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn freebind(_socket: &SockRef<'_>, _ipv6: bool) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn refused(error: &io::Error, _job: &Job) -> Refusal {
    kind_of(error).into()
}
