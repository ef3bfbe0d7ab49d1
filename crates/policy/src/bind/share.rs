//! Whether a bind is made shareable, and how: one decision for every interposer.
//!
//! Only `core` is used: the preload library takes this file as it is.

use core::net::{IpAddr, SocketAddr};

use super::protocol::Protocol;

/// The facts when a worker calls `bind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindAttempt {
    /// TCP (MPTCP included) or UDP (UDP-Lite included); `None` for every other kind of socket.
    pub protocol: Option<Protocol>,
    /// The address asked for; `None` if it cannot be read or is not an IP address.
    pub address: Option<SocketAddr>,
    /// Whether the program itself has set `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// Whether the program itself has set `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// Whether the socket lives in the supervisor's own network namespace.
    pub same_network: bool,
}

/// The change to the socket before its bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareDecision {
    /// Set `SO_REUSEPORT`.
    Share {
        /// Clear `SO_REUSEADDR` as well: on UDP, two sockets that have both options can be bound
        /// by different users, and the newest takes every datagram. Not on a multicast service, where
        /// each socket gets a copy, and programs of other users need the option on this one.
        clear_reuse_address: bool,
    },
    /// The socket is shared already, by the program's own choice; nothing is changed on it.
    SharedByItself,
    /// Nothing is changed.
    LeaveAlone(NotShared),
}

/// Why a bind is left unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotShared {
    /// Not a TCP or UDP socket, or not an IP address.
    NotAPort,
    /// Port 0: the kernel picks a free one, and sharing would let it pick one in use.
    AnyPort,
    /// Not one of the ports asked for with `--port`.
    OtherPort,
    /// A multicast or broadcast address: every member gets every datagram, so there is nothing to
    /// distribute.
    Multicast,
    /// The socket belongs to another network namespace, whose ports are not those of the
    /// supervisor.
    OtherNetwork,
}

/// Decides. `wanted`: whether this port is one of those to share.
#[must_use]
pub fn decide(attempt: &BindAttempt, wanted: bool) -> ShareDecision {
    let (Some(protocol), Some(address)) = (attempt.protocol, attempt.address) else {
        return ShareDecision::LeaveAlone(NotShared::NotAPort);
    };
    if !attempt.same_network {
        return ShareDecision::LeaveAlone(NotShared::OtherNetwork);
    }
    if address.port() == 0 {
        return ShareDecision::LeaveAlone(NotShared::AnyPort);
    }
    if !wanted {
        return ShareDecision::LeaveAlone(NotShared::OtherPort);
    }
    if is_multicast(address.ip()) {
        return ShareDecision::LeaveAlone(NotShared::Multicast);
    }
    if attempt.reuse_port {
        return ShareDecision::SharedByItself;
    }
    // On TCP the program's own SO_REUSEADDR stays: without it a restart would have to wait for
    // TIME_WAIT connections that an earlier, unshared run of the program left behind.
    let clear_reuse_address = protocol == Protocol::Udp
        && attempt.reuse_address
        && !is_multicast_service(protocol, address);
    ShareDecision::Share { clear_reuse_address }
}

/// Multicast and broadcast services; each program receives a copy: DHCP (67, 68, 546, 547),
/// PTP (319, 320), SSDP (1900), WS-Discovery (3702), mDNS (5353), LLMNR (5355).
pub const MULTICAST_PORTS: [u16; 10] = [67, 68, 319, 320, 546, 547, 1900, 3702, 5353, 5355];

/// DHCP programs have a socket for each interface, bound to the address of the interface.
const DHCP_PORTS: [u16; 4] = [67, 68, 546, 547];

/// Whether unrelated programs share this address by design: a multicast or broadcast address, or the
/// wildcard on a port of a multicast service. On a unicast address of such a port they do not.
#[must_use]
pub fn is_multicast_service(protocol: Protocol, address: SocketAddr) -> bool {
    let (ip, port) = (address.ip().to_canonical(), address.port());
    let is_service = MULTICAST_PORTS.contains(&port) && ip.is_unspecified();
    protocol == Protocol::Udp && (is_multicast(ip) || is_service || DHCP_PORTS.contains(&port))
}

/// Whether a datagram to this address reaches every socket that is bound to it.
fn is_multicast(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    }
}
