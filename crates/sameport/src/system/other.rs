//! Any other system: exclusive sockets by a plain `bind`; sharing is an error.

use std::io;

use socket2::SockRef;

use super::System;
use crate::socket_job::SocketJob;
use crate::support::{DualStack, Exclusive, JoinPolicy, Sharing, Support};

pub(crate) struct Other;

pub(crate) use self::Other as Here;

impl System for Other {
    const UNSUPPORTED: &'static [i32] = &[];

    fn support() -> Support {
        Support {
            sharing: Sharing::Unsupported,
            join_policy: JoinPolicy::NoUser,
            exclusive: Exclusive::PlainBind,
            dual_stack: DualStack::TwoSockets,
        }
    }

    fn set_shared(_socket: &SockRef<'_>, _job: &SocketJob) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_exclusive(socket: &SockRef<'_>, _job: &SocketJob) -> io::Result<()> {
        socket.set_reuse_address(false)
    }
}
