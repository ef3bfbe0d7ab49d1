//! illumos and Solaris: no sharing that is known to be safe; `SO_EXCLBIND` for exclusive use.
//!
//! illumos-gate has no `SO_REUSEPORT` (issue 12455 asks for it), and its `tcp_bindi` never
//! compares users. Solaris 11.4 has one and balances by it, but who may join was not established,
//! and the crates that bind the system's headers do not know the option. So sharing is refused
//! with an error on both, rather than half-promised.

use std::io;

use socket2::SockRef;

use super::{Job, Refusal, kind_of, raw, unsupported};
use crate::support::{DualStack, Exclusive, Joiners, Sharing, Support};

pub(crate) const UNSUPPORTED: &[i32] =
    &[libc::EAFNOSUPPORT, libc::ENOPROTOOPT, libc::EOPNOTSUPP, libc::EPROTONOSUPPORT];

pub(crate) fn support() -> Support {
    Support {
        sharing: Sharing::Unsupported,
        joiners: Joiners::Nobody,
        exclusive: Exclusive::ExclBind,
        dual_stack: DualStack::OneSocket,
    }
}

pub(crate) fn share(_socket: &SockRef<'_>, _job: &Job) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn waits_for_port(_job: &Job) -> bool {
    false
}

/// `SO_EXCLBIND`, socket.h(3HEAD): on either side it refuses every overlap.
pub(crate) fn exclude(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_reuse_address(false)?;
    raw::set(socket, libc::SOL_SOCKET, libc::SO_EXCLBIND, 1)
}

/// `IP_BOUND_IF`, `IPV6_BOUND_IF`, ip(4P).
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
