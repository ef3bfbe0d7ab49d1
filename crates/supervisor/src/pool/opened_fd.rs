//! The descriptor with which a worker opened a held socket, and whether it still refers to it.

use std::collections::HashSet;
use std::time::Instant;

use sameport_sys::inspect;
use sameport_sys::socket::descriptor_inode;

/// The descriptor with which a worker opened a held socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenedFd {
    pub(super) tid: i32,
    pub(super) fd: i32,
    pub(super) at: Instant,
    /// Whether the address is the run's.
    pub(super) is_known: bool,
    /// Whether the worker counts as listening there.
    pub(super) is_reported: bool,
    /// Whether an inspection did not find it open.
    pub(super) seems_closed: bool,
}

impl OpenedFd {
    /// Whether the descriptor still refers to this socket.
    pub(super) fn refers_to(&self, inode: u64) -> bool {
        descriptor_inode(self.tid, self.fd) == Ok(inode)
    }

    /// Whether the process that opened the socket can have it at another number, or has ended.
    pub(super) fn is_closed_in_process(&self, inode: u64) -> bool {
        inspect::open_in(&HashSet::from([inode]), &[self.tid]).is_some_and(|it| it.is_empty())
            && std::fs::exists(format!("/proc/{}", self.tid)).unwrap_or(false)
    }
}
