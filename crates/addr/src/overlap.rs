//! Which IP addresses the address of a socket contains.
//!
//! This file uses `core` only: the preload library is compiled from it. The module `net` of its parent
//! is `core::net` there and `std::net` here, because `core` has it since Rust 1.77.

use super::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a socket that is bound to `mine` receives the traffic for a socket that is bound to `theirs`.
/// `v6only`: whether the first socket excludes IPv4 (`IPV6_V6ONLY`), which matters for `::` only.
///
/// ```
/// use sameport_addr::contains_ip;
///
/// let (any, one) = ("::".parse()?, "127.0.0.1".parse()?);
/// assert!(contains_ip(any, false, one) && !contains_ip(any, true, one));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[must_use]
pub fn contains_ip(mine: IpAddr, v6only: bool, theirs: IpAddr) -> bool {
    if mine == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !v6only {
        return true;
    }
    let (mine, theirs) = (unmapped(mine), unmapped(theirs));
    mine == theirs
        || (mine == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && theirs.is_ipv4())
        || (mine == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && theirs.is_ipv6())
}

/// The IPv4 address of an IPv4-mapped IPv6 address: `::ffff:127.0.0.1` receives the traffic of
/// `127.0.0.1`.
fn unmapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}
