//! Windows: `SO_REUSEADDR` for shared sockets, `SO_EXCLUSIVEADDRUSE` for exclusive ones.
//!
//! Source: Microsoft's table in "Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE". Two sockets that both
//! have `SO_REUSEADDR` can have one address, whichever users own them, and it is undefined which
//! socket receives a connection: `Sharing::OpenToOtherUsers`.

use std::io;

use socket2::SockRef;
use windows_sys::Win32::Networking::WinSock::{
    SO_ACCEPTCONN, SO_EXCLUSIVEADDRUSE, SOL_SOCKET, WSAEAFNOSUPPORT, WSAENOPROTOOPT, WSAEOPNOTSUPP,
    WSAEPROTONOSUPPORT,
};

use super::{System, raw};
use crate::error_kind::ErrorKind;
use crate::socket_job::{BindRefusal, SocketJob};
use crate::support::{DualStack, Exclusive, JoinPolicy, Sharing, Support};

pub(crate) struct Windows;

pub(crate) use self::Windows as Here;

impl System for Windows {
    const UNSUPPORTED: &'static [i32] =
        &[WSAEAFNOSUPPORT, WSAENOPROTOOPT, WSAEOPNOTSUPP, WSAEPROTONOSUPPORT];

    fn support() -> Support {
        Support {
            sharing: Sharing::OpenToOtherUsers,
            join_policy: JoinPolicy::AnyUser,
            exclusive: Exclusive::ExclusiveAddrUse,
            dual_stack: DualStack::OneSocket,
        }
    }

    fn set_shared(socket: &SockRef<'_>, _job: &SocketJob) -> io::Result<()> {
        // The two options exclude each other: setting the second fails with WSAEINVAL.
        raw::set(socket, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 0)?;
        socket.set_reuse_address(true)
    }

    fn set_exclusive(socket: &SockRef<'_>, _job: &SocketJob) -> io::Result<()> {
        socket.set_reuse_address(false)?;
        raw::set(socket, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 1)
    }

    fn is_shared(socket: &SockRef<'_>) -> io::Result<bool> {
        socket.reuse_address()
    }

    fn is_listening(socket: &SockRef<'_>) -> io::Result<bool> {
        raw::get(socket, SOL_SOCKET, SO_ACCEPTCONN).map(|value| value != 0)
    }

    /// Windows has no privileged ports. WSAEACCES means a conflicting socket that is not shared, or
    /// a port range that the system reserves. It does not prove another user: by the table, a
    /// socket of the same user causes it too.
    fn explain(kind: ErrorKind, _job: &SocketJob) -> BindRefusal {
        match kind {
            ErrorKind::NotPermitted => BindRefusal {
                note: Some(
                    "held by a socket that is not shared, or in a range that the system reserves",
                ),
                ..ErrorKind::InUse.into()
            },
            kind => kind.into(),
        }
    }
}
