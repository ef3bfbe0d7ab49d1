//! What the programs did, bind by bind.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::maps::{MapData, RingBuf};
use sameport_policy::addr::Protocol;

use super::layout;

/// A bind that was changed. Binds that were left alone are not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindEvent {
    /// Who called, in the machine's first pid namespace.
    pub pid: u32,
    /// The calling thread's name, at most 15 bytes.
    pub program: String,
    /// TCP (MPTCP included) or UDP (UDP-Lite included).
    pub protocol: Protocol,
    /// The address that it asked for.
    pub asked: SocketAddr,
    /// The place, in the settings, of the rule that was followed.
    pub rule: Option<usize>,
    /// What was done.
    pub happened: BindAction,
}

/// What was done to a bind. The kernel may refuse it all the same, after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindAction {
    /// It went on.
    Given {
        /// With this address: the one asked for, if no rule was followed.
        address: SocketAddr,
        /// With `SO_REUSEPORT`, set by us.
        shared: bool,
    },
    /// It was refused with EAFNOSUPPORT: the rule gives an address of a family that the socket
    /// cannot have.
    OtherFamily,
}

/// The events of one attachment, each once. Readable (`poll`, `epoll`) when there is one; those
/// that come while 900 wait are lost.
pub struct BindEvents(RingBuf<MapData>);

impl BindEvents {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self(ring)
    }
}

/// Never waits: `None` for now.
impl Iterator for BindEvents {
    type Item = BindEvent;

    fn next(&mut self) -> Option<BindEvent> {
        let item = self.0.next()?;
        layout::event(&item)
    }
}

impl AsFd for BindEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for BindEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl std::fmt::Debug for BindEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
