//! Where a socket is bound.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::protocol::Protocol;

/// Where a socket is bound: protocol, IP, port, and the device it is confined to, if any.
///
/// Two sockets with equal addresses are in one group. Sockets with different addresses can still
/// compete for the same traffic: see [`Address::overlaps`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// IP and port. A link-local IPv6 address keeps its scope.
    pub socket: SocketAddr,
    /// Name of the interface the socket is bound to (`SO_BINDTODEVICE`), if it is.
    pub device: Option<String>,
    /// Whether the IPv6 wildcard refuses IPv4 (`IPV6_V6ONLY`). False for every other address,
    /// where the option has no meaning: Linux sets it by itself when a socket is bound to one
    /// IPv6 address.
    pub v6only: bool,
}

impl Address {
    /// An address that is not confined to a device, dual-stack if it is an IPv6 wildcard.
    #[must_use]
    pub fn new(protocol: Protocol, socket: SocketAddr) -> Self {
        Self { protocol, socket, device: None, v6only: false }
    }

    /// The port number.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.socket.port()
    }

    /// The IPv6 wildcard that also takes IPv4 traffic.
    #[must_use]
    pub fn is_dual_stack(&self) -> bool {
        self.socket.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !self.v6only
    }

    /// Whether some packet could be for both addresses, so that the kernel's conflict rules apply
    /// between them: same protocol and port, devices that do not exclude each other, and IPs of
    /// which one contains the other.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let devices_meet = match (&self.device, &other.device) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.protocol == other.protocol
            && self.port() == other.port()
            && devices_meet
            && (self.contains_ip_of(other) || other.contains_ip_of(self))
    }

    /// Whether this address is a proper part of the other, so that the kernel prefers it for all
    /// traffic the two could both take.
    #[must_use]
    pub fn is_within(&self, wider: &Self) -> bool {
        let as_wide = wider.contains_ip_of(self) && self.contains_ip_of(wider);
        let narrower_device = self.device.is_some() && wider.device.is_none();
        self.overlaps(wider)
            && wider.contains_ip_of(self)
            && (!as_wide || (narrower_device && self.socket == wider.socket))
    }

    fn contains_ip_of(&self, other: &Self) -> bool {
        if self.is_dual_stack() {
            return true;
        }
        let (mine, theirs) = (unmapped(self.socket.ip()), unmapped(other.socket.ip()));
        mine == theirs
            || (mine == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && theirs.is_ipv4())
            || (mine == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && theirs.is_ipv6())
    }
}

/// `::ffff:127.0.0.1` and `127.0.0.1` name the same traffic.
fn unmapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// `127.0.0.1:80`, `[::1]:80`; `*:80` for the wildcard of both families; `0.0.0.0%eth0:80` on a
/// device. The protocol is not part of it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An interface's name may have anything in it that is no space: it must not steer a terminal.
        let device = self.device.as_deref().map(str::escape_debug);
        let text = match (device, self.socket) {
            (None, _) if self.is_dual_stack() => format!("*:{}", self.port()),
            (Some(device), _) if self.is_dual_stack() => format!("*%{device}:{}", self.port()),
            (None, socket) => socket.to_string(),
            (Some(device), SocketAddr::V4(v4)) => format!("{}%{device}:{}", v4.ip(), v4.port()),
            (Some(device), SocketAddr::V6(v6)) => format!("[{}%{device}]:{}", v6.ip(), v6.port()),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddrV4, SocketAddrV6};

    use super::*;

    fn v4(ip: [u8; 4], port: u16) -> SocketAddr {
        SocketAddrV4::new(ip.into(), port).into()
    }

    fn v6(ip: Ipv6Addr, port: u16) -> SocketAddr {
        SocketAddrV6::new(ip, port, 0, 0).into()
    }

    fn tcp(socket: SocketAddr) -> Address {
        Address::new(Protocol::Tcp, socket)
    }

    #[test]
    fn overlap_follows_the_kernel() {
        let any4 = tcp(v4([0, 0, 0, 0], 80));
        let any6 = tcp(v6(Ipv6Addr::UNSPECIFIED, 80));
        let only6 = Address { v6only: true, ..any6.clone() };
        let loop4 = tcp(v4([127, 0, 0, 1], 80));
        let loop6 = tcp(v6(Ipv6Addr::LOCALHOST, 80));
        let mapped = tcp(v6("::ffff:127.0.0.1".parse().unwrap(), 80));
        let on_lo = Address { device: Some("lo".into()), ..any4.clone() };
        let on_eth = Address { device: Some("eth0".into()), ..any4.clone() };
        let cases = [
            (&any4, &loop4, true),
            (&any4, &loop6, false),
            (&any4, &any6, true),
            (&any4, &only6, false),
            (&only6, &loop6, true),
            (&only6, &mapped, false),
            (&any6, &mapped, true),
            (&loop4, &mapped, true),
            (&loop4, &loop6, false),
            (&any4, &on_lo, true),
            (&on_lo, &on_eth, false),
        ];
        for (a, b, expected) in cases {
            assert_eq!(a.overlaps(b), expected, "{a} and {b}");
            assert_eq!(b.overlaps(a), expected, "{b} and {a}");
        }
        let udp = Address::new(Protocol::Udp, v4([127, 0, 0, 1], 80));
        assert!(!loop4.overlaps(&udp));
        assert!(!loop4.overlaps(&tcp(v4([127, 0, 0, 1], 81))));
    }

    #[test]
    fn addresses_read_as_people_write_them() {
        let any6 = tcp(v6(Ipv6Addr::UNSPECIFIED, 80));
        assert_eq!(any6.to_string(), "*:80");
        assert_eq!(Address { v6only: true, ..any6 }.to_string(), "[::]:80");
        let on_lo = Address { device: Some("lo".into()), ..tcp(v4([0, 0, 0, 0], 80)) };
        assert_eq!(on_lo.to_string(), "0.0.0.0%lo:80");
        let odd = Address { device: Some("\u{1b}[2J".into()), ..on_lo };
        assert_eq!(odd.to_string(), "0.0.0.0%\\u{1b}[2J:80");
        assert_eq!(tcp(v6(Ipv6Addr::LOCALHOST, 80)).to_string(), "[::1]:80");
    }
}
