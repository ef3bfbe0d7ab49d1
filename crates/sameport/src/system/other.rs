//! Any other system: nothing is known, so nothing is promised. Plain exclusive sockets work.

use std::io;

use socket2::SockRef;

use super::{Job, Refusal, kind_of, unsupported};
use crate::support::{DualStack, Exclusive, Joiners, Sharing, Support};

pub(crate) const UNSUPPORTED: &[i32] = &[];

pub(crate) fn support() -> Support {
    Support {
        sharing: Sharing::Unsupported,
        joiners: Joiners::Nobody,
        exclusive: Exclusive::PlainBind,
        dual_stack: DualStack::TwoSockets,
    }
}

pub(crate) fn share(_socket: &SockRef<'_>, _job: &Job) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn waits_for_port(_job: &Job) -> bool {
    false
}

pub(crate) fn exclude(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_reuse_address(false)
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
