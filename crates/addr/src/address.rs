//! The address of a bound socket, and the overlap of two addresses.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::overlap::contains_ip;
use crate::protocol::Protocol;

/// The address of a bound socket: protocol, IP address, port and optional network device.
///
/// Sockets with equal addresses form one group. Sockets with different addresses can still compete
/// for the same traffic: see [`Address::overlaps`].
///
/// ```
/// use sameport_addr::{Address, Protocol};
///
/// let wildcard = Address::new(Protocol::Tcp, "0.0.0.0:80".parse()?);
/// let loopback = Address::new(Protocol::Tcp, "127.0.0.1:80".parse()?);
/// assert!(loopback.overlaps(&wildcard) && loopback.is_within(&wildcard));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// IP address and port. A link-local IPv6 address keeps its scope.
    pub socket: SocketAddr,
    /// The network interface to which the socket is bound (`SO_BINDTODEVICE`, socket(7)).
    pub device: Option<String>,
    /// Whether the IPv6 wildcard address excludes IPv4 (`IPV6_V6ONLY`, ipv6(7)). False for all other
    /// addresses: the option has no effect there, and Linux sets it when a socket is bound to one
    /// IPv6 address.
    pub v6only: bool,
}

impl Address {
    /// An address on every device. The IPv6 wildcard address is dual-stack.
    ///
    /// ```
    /// use sameport_addr::{Address, Protocol};
    ///
    /// let address = Address::new(Protocol::Tcp, "127.0.0.1:80".parse()?);
    /// assert_eq!((address.device, address.v6only), (None, false));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn new(protocol: Protocol, socket: SocketAddr) -> Self {
        Self { protocol, socket, device: None, v6only: false }
    }

    /// The port number.
    ///
    /// ```
    /// use sameport_addr::{Address, Protocol};
    ///
    /// assert_eq!(Address::new(Protocol::Tcp, "[::1]:80".parse()?).port(), 80);
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn port(&self) -> u16 {
        self.socket.port()
    }

    /// Whether this is the IPv6 wildcard address that also receives IPv4 traffic.
    ///
    /// ```
    /// use sameport_addr::{Address, Protocol};
    ///
    /// assert!(Address::new(Protocol::Tcp, "[::]:80".parse()?).is_dual_stack());
    /// assert!(!Address::new(Protocol::Tcp, "[::1]:80".parse()?).is_dual_stack());
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn is_dual_stack(&self) -> bool {
        self.socket.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !self.v6only
    }

    /// Whether a packet can match both addresses, so that the kernel's conflict rules apply between
    /// them: equal protocol and port, compatible devices, and one IP address contains the other.
    ///
    /// ```
    /// use sameport_addr::{Address, Protocol};
    ///
    /// let any = Address::new(Protocol::Tcp, "[::]:80".parse()?);
    /// assert!(any.overlaps(&Address::new(Protocol::Tcp, "127.0.0.1:80".parse()?)));
    /// assert!(!any.overlaps(&Address::new(Protocol::Udp, "127.0.0.1:80".parse()?)));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let devices_match = match (&self.device, &other.device) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.protocol == other.protocol
            && self.port() == other.port()
            && devices_match
            && (self.contains_ip_of(other) || other.contains_ip_of(self))
    }

    /// Whether this address is more specific than `wider`, so that the kernel prefers it for all
    /// traffic that matches both.
    ///
    /// ```
    /// use sameport_addr::{Address, Protocol};
    ///
    /// let any = Address::new(Protocol::Tcp, "0.0.0.0:80".parse()?);
    /// let one = Address::new(Protocol::Tcp, "127.0.0.1:80".parse()?);
    /// assert!(one.is_within(&any) && !any.is_within(&one));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn is_within(&self, wider: &Self) -> bool {
        let same_ip = wider.contains_ip_of(self) && self.contains_ip_of(wider);
        let narrower_device = self.device.is_some() && wider.device.is_none();
        self.overlaps(wider)
            && wider.contains_ip_of(self)
            && (!same_ip || (narrower_device && self.socket == wider.socket))
    }

    /// The address with its protocol, for messages: `127.0.0.1:80/tcp`.
    ///
    /// ```
    /// use sameport_addr::{Address, Protocol};
    ///
    /// let address = Address::new(Protocol::Tcp, "127.0.0.1:80".parse()?);
    /// assert_eq!(address.labelled().to_string(), "127.0.0.1:80/tcp");
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    #[must_use]
    pub fn labelled(&self) -> impl fmt::Display + '_ {
        LabelledAddress(self)
    }

    fn contains_ip_of(&self, other: &Self) -> bool {
        contains_ip(self.socket.ip(), self.v6only, other.socket.ip())
    }
}

/// Writes `127.0.0.1:80` or `[::1]:80`, `*:80` for the dual-stack wildcard, `0.0.0.0%eth0:80` for a
/// socket on a device. The protocol is not written.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An interface name can contain any byte except space and `/`, also terminal control codes.
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

struct LabelledAddress<'a>(&'a Address);

impl fmt::Display for LabelledAddress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.0, self.0.protocol))
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
    fn addresses_are_displayed_in_their_usual_form() {
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
