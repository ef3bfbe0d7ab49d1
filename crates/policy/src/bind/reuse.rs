//! What the kernel refuses between two sockets on overlapping addresses, by their options.
//!
//! Only `core` is used: the preload library takes this file as it is.

use super::protocol::Protocol;

/// The options that a program itself has set on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReuseOptions {
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
}

/// The step of a new socket beside an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnStep {
    /// `bind`.
    Bind,
    /// `listen`.
    Listen,
}

/// Whether the kernel would refuse the new socket because of the earlier one, if neither were shared.
/// The addresses overlap. `listens`: whether the earlier socket listens. The owners of the sockets are
/// equal.
///
/// Source: `inet_csk_bind_conflict` in `net/ipv4/inet_connection_sock.c`, `udp_lib_lport_inuse` in
/// `net/ipv4/udp.c`.
#[must_use]
pub fn refuses(
    protocol: Protocol,
    new: ReuseOptions,
    step: OwnStep,
    earlier: ReuseOptions,
    listens: bool,
) -> bool {
    if new.reuse_port {
        return false;
    }
    let both_reuse = new.reuse_address && earlier.reuse_address;
    match protocol {
        Protocol::Udp => !both_reuse,
        // With SO_REUSEADDR two sockets may be bound, but only one may listen.
        Protocol::Tcp => match step {
            OwnStep::Bind => !both_reuse || listens,
            OwnStep::Listen => listens,
        },
    }
}
