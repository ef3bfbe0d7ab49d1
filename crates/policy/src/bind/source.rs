//! Where a program's connections come from: `--source ADDR[:PORT]`.
//!
//! Only `core` is used, so that the preload library can take this file as it is.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use super::map::RuleSide;

/// Reads `ADDR` or `ADDR:PORT`, an IPv6 address in brackets; without a port, it is 0: any.
///
/// # Errors
/// Where it is none, or an address that no connection can come from (a wildcard, a multicast group).
pub fn read(text: &str) -> Result<SocketAddr, SourceError> {
    match text.parse() {
        Ok(RuleSide { ip: Some(ip), port }) if !ip.is_unspecified() && !ip.is_multicast() => {
            Ok(SocketAddr::new(ip, port.unwrap_or(0)))
        }
        _ => Err(SourceError),
    }
}

/// A text that is no source address. `Display` is one line: what to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceError;

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write ADDR or ADDR:PORT, such as 127.0.0.9 or [::1]:4000")
    }
}

impl core::error::Error for SourceError {}

/// A socket that is about to `connect`, or to send to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutgoingSocket {
    /// Whether it is an IPv6 socket.
    pub is_v6: bool,
    /// Whether it has a local address already, by the program's own `bind` or an earlier call.
    pub is_bound: bool,
    /// Where it wants to go; `None` if that is no IP address (`AF_UNSPEC` dissolves a connection).
    pub to: Option<SocketAddr>,
}

/// The local address to bind it to first, in the socket's own family; `None` to leave it alone.
///
/// A socket that the program has bound is the program's affair, and a source of the other family
/// leads nowhere. An IPv6 socket that goes to `::ffff:a.b.c.d` speaks IPv4.
#[must_use]
pub fn decide(source: SocketAddr, outgoing: &OutgoingSocket) -> Option<SocketAddr> {
    let to = outgoing.to?;
    if outgoing.is_bound || source.ip().is_ipv4() != to.ip().to_canonical().is_ipv4() {
        return None;
    }
    match (outgoing.is_v6, source.ip()) {
        (false, IpAddr::V6(_)) => None,
        (true, IpAddr::V4(ip)) => Some((ip.to_ipv6_mapped(), source.port()).into()),
        _ => Some(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_addresses() {
        for (text, expected) in [
            ("10.0.0.7", "10.0.0.7:0"),
            ("10.0.0.7:49888", "10.0.0.7:49888"),
            ("[::1]", "[::1]:0"),
            ("[::1]:49888", "[::1]:49888"),
        ] {
            assert_eq!(read(text), Ok(expected.parse().unwrap()), "{text}");
        }
        for text in ["", "80", "0.0.0.0", "0.0.0.0:80", "::", "[::]", "224.0.0.1", "[ff02::1]:9"] {
            assert_eq!(read(text), Err(SourceError), "{text}");
        }
        for text in ["10.0.0.7:0", "localhost", "::1", "tcp:10.0.0.7"] {
            assert_eq!(read(text), Err(SourceError), "{text}");
        }
    }

    #[test]
    fn facts_to_source() {
        let v4: SocketAddr = "127.0.0.9:0".parse().unwrap();
        let v6: SocketAddr = "[::1]:7".parse().unwrap();
        let towards =
            |is_v6, to: &str| OutgoingSocket { is_v6, is_bound: false, to: to.parse().ok() };
        let mapped = "[::ffff:127.0.0.9]:0".parse().ok();
        let cases = [
            (v4, towards(false, "127.0.0.1:80"), Some(v4)),
            (v4, towards(true, "[::ffff:127.0.0.1]:80"), mapped),
            (v4, towards(true, "[::1]:80"), None),
            (v6, towards(true, "[::1]:80"), Some(v6)),
            (v6, towards(true, "[::ffff:127.0.0.1]:80"), None),
            (v6, towards(false, "127.0.0.1:80"), None),
            (v4, towards(false, "nowhere"), None),
            (v4, OutgoingSocket { is_bound: true, ..towards(false, "127.0.0.1:80") }, None),
        ];
        for (source, outgoing, expected) in cases {
            assert_eq!(decide(source, &outgoing), expected, "{source} {outgoing:?}");
        }
    }
}
