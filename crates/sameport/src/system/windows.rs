//! Windows: sharing by `SO_REUSEADDR`, exclusive use by `SO_EXCLUSIVEADDRUSE`.
//!
//! From Microsoft's table in "Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE": two sockets that both
//! have `SO_REUSEADDR` may be on one address whoever they belong to, and which of them gets a
//! connection is undefined. That is what `Sharing::OpenToOtherUsers` says.

use std::io;

use socket2::SockRef;
use windows_sys::Win32::Networking::WinSock::{
    SO_EXCLUSIVEADDRUSE, SOL_SOCKET, WSAEAFNOSUPPORT, WSAENOPROTOOPT, WSAEOPNOTSUPP,
    WSAEPROTONOSUPPORT,
};

use super::{Job, Refusal, kind_of, raw, unsupported};
use crate::error::Kind;
use crate::support::{DualStack, Exclusive, Joiners, Sharing, Support};

pub(crate) const UNSUPPORTED: &[i32] =
    &[WSAEAFNOSUPPORT, WSAENOPROTOOPT, WSAEOPNOTSUPP, WSAEPROTONOSUPPORT];

pub(crate) fn support() -> Support {
    Support {
        sharing: Sharing::OpenToOtherUsers,
        joiners: Joiners::AnyUser,
        exclusive: Exclusive::ExclusiveAddrUse,
        dual_stack: DualStack::OneSocket,
    }
}

pub(crate) fn share(socket: &SockRef<'_>, _job: &Job) -> io::Result<()> {
    // The two options exclude each other: setting the second fails with WSAEINVAL.
    raw::set(socket, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 0)?;
    socket.set_reuse_address(true)
}

pub(crate) fn waits_for_port(_job: &Job) -> bool {
    false
}

pub(crate) fn exclude(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_reuse_address(false)?;
    raw::set(socket, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 1)
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

/// Windows has no privileged ports. By the table, WSAEACCES on `bind` means a socket in the way
/// that does not share, of whichever user: the same pair of options gives it to one's own sockets
/// too, so it does not tell another user. Ranges that the system reserves give it as well.
pub(crate) fn refused(error: &io::Error, _job: &Job) -> Refusal {
    match kind_of(error) {
        Kind::NotPermitted => Refusal {
            note: Some(
                "held by a socket that is not shared, or in a range that the system reserves",
            ),
            ..Kind::InUse.into()
        },
        kind => kind.into(),
    }
}
