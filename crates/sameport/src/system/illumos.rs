//! illumos and Solaris: `SO_EXCLBIND` for exclusive sockets; sharing is an error.
//!
//! illumos has no `SO_REUSEPORT` (illumos issue 12455), and its `tcp_bindi` never compares users.
//! Solaris 11.4 has `SO_REUSEPORT` and balances by it, but its rules for users are not established,
//! and no crate with the system's headers has the option.

use std::io;

use socket2::SockRef;

use super::{System, raw};
use crate::socket_job::{Role, SocketJob};
use crate::support::{DualStack, Exclusive, JoinPolicy, Sharing, Support};

pub(crate) struct Illumos;

pub(crate) use self::Illumos as Here;

impl System for Illumos {
    const UNSUPPORTED: &'static [i32] =
        &[libc::EAFNOSUPPORT, libc::ENOPROTOOPT, libc::EOPNOTSUPP, libc::EPROTONOSUPPORT];

    fn support() -> Support {
        Support {
            sharing: Sharing::Unsupported,
            join_policy: JoinPolicy::NoUser,
            exclusive: Exclusive::ExclBind,
            dual_stack: DualStack::OneSocket,
        }
    }

    fn set_shared(_socket: &SockRef<'_>, _job: &SocketJob) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// `SO_EXCLBIND`, socket.h(3HEAD): refuses every overlapping bind, before and after, of a socket
    /// that is bound, listens or is connected. A connection that is closing, TIME-WAIT included, is
    /// left to `SO_REUSEADDR`: `tcp_bindi` of `usr/src/uts/common/inet/tcp/tcp_bind.c`. With both
    /// options a listener restarts over it, and `SO_REUSEADDR` admits nothing else.
    fn set_exclusive(socket: &SockRef<'_>, job: &SocketJob) -> io::Result<()> {
        socket.set_reuse_address(job.role == Role::Listener)?;
        raw::set(socket, libc::SOL_SOCKET, libc::SO_EXCLBIND, 1)
    }

    fn is_listening(socket: &SockRef<'_>) -> io::Result<bool> {
        raw::get(socket, libc::SOL_SOCKET, libc::SO_ACCEPTCONN).map(|value| value != 0)
    }

    /// `IP_BOUND_IF`, `IPV6_BOUND_IF`: ip(4P), ip6(4P).
    fn set_device(socket: &SockRef<'_>, name: &str, ipv6: bool) -> io::Result<()> {
        let index = raw::interface_index(name)?;
        if ipv6 {
            raw::set(socket, libc::IPPROTO_IPV6, libc::IPV6_BOUND_IF, index)
        } else {
            raw::set(socket, libc::IPPROTO_IP, libc::IP_BOUND_IF, index)
        }
    }
}
