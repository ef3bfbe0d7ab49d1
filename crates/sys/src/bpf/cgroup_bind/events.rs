//! The binds that the programs changed, as a stream of events.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::maps::{MapData, RingBuf};
use sameport_policy::addr::Protocol;

use super::layout::{RawEvent, address, u16_at, u32_at};

/// A changed bind. Unchanged binds make no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindEvent {
    /// Pid of the caller in the initial pid namespace.
    pub pid: u32,
    /// The calling thread's name, at most 15 bytes.
    pub program: String,
    /// TCP (MPTCP included) or UDP (UDP-Lite included).
    pub protocol: Protocol,
    /// The requested address.
    pub asked: SocketAddr,
    /// The index in the settings of the rule that applied.
    pub rule: Option<usize>,
    /// The change.
    pub happened: BindAction,
}

/// The change of a bind. The kernel can still refuse it afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindAction {
    /// The bind continued.
    Given {
        /// The address of the bind: the requested one if no rule applied.
        address: SocketAddr,
        /// Whether the programs set `SO_REUSEPORT`.
        shared: bool,
    },
    /// The bind failed with EAFNOSUPPORT: the rule's address has a family that the socket lacks.
    OtherFamily,
}

impl BindEvent {
    /// Reads `struct event` of `bind.bpf.c`. `None` for another size.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &RawEvent = bytes.try_into().ok()?;
        let is_v4 = u16_at(bytes, 10) == 4;
        let rule = u32_at(bytes, 4);
        let program = &bytes[48..];
        let end = program.iter().position(|byte| *byte == 0).unwrap_or(program.len());
        let (shared, other_family) = (bytes[9] & 1 != 0, bytes[9] & 4 != 0);
        Some(Self {
            pid: u32_at(bytes, 0),
            program: String::from_utf8_lossy(&program[..end]).into_owned(),
            protocol: if bytes[8] == 6 { Protocol::Tcp } else { Protocol::Udp },
            asked: address(bytes, 16, u16_at(bytes, 12), is_v4),
            rule: (rule != u32::MAX).then_some(rule as usize),
            happened: if other_family {
                BindAction::OtherFamily
            } else {
                BindAction::Given { address: address(bytes, 32, u16_at(bytes, 14), is_v4), shared }
            },
        })
    }
}

/// The events of one attachment, each once. The descriptor is readable (`poll`, `epoll`) while events
/// wait. The buffer holds 900; later ones are lost until it is read.
pub struct BindEvents(RingBuf<MapData>);

impl BindEvents {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self(ring)
    }
}

/// Never blocks: `None` when no event waits.
impl Iterator for BindEvents {
    type Item = BindEvent;

    fn next(&mut self) -> Option<BindEvent> {
        let item = self.0.next()?;
        BindEvent::read(&item)
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
        f.debug_struct("BindEvents").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_another_size_are_ignored() {
        assert_eq!(BindEvent::read(&[0; 63]), None);
        assert_eq!(BindEvent::read(&[]), None);
        assert!(BindEvent::read(&[255; 64]).is_some());
    }
}
