//! Reading the bytes that a program hands to `bind`.
//!
//! The bytes come from another process and may be anything. The kernel reads them again after us,
//! and its reading is the one that counts. Only `core` is used: the preload library takes this file
//! as it is.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// `AF_UNSPEC`, `AF_INET` and `AF_INET6` on Linux, the same on every architecture.
const UNSPECIFIED: u16 = 0;
const INTERNET: u16 = 2;
const INTERNET_6: u16 = 10;

/// The largest sockaddr the kernel accepts (`struct sockaddr_storage`); a longer one is EINVAL.
pub const LONGEST: usize = 128;

/// The IP and port in a sockaddr, or `None` where the kernel would not see one either.
///
/// IPv6 needs 24 bytes (the scope may be missing, RFC 2133). `AF_UNSPEC` with the IPv4 wildcard is
/// taken as IPv4, as `__inet_bind` in `net/ipv4/af_inet.c` does for old programs.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    match u16::from_ne_bytes(*family) {
        INTERNET => v4(rest).map(SocketAddr::V4),
        UNSPECIFIED => v4(rest).filter(|address| address.ip().is_unspecified()).map(SocketAddr::V4),
        INTERNET_6 => v6(rest).map(SocketAddr::V6),
        _ => None,
    }
}

/// The rest of a `sockaddr_in`: port, address, eight bytes of padding that the kernel insists on.
fn v4(rest: &[u8]) -> Option<SocketAddrV4> {
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (ip, padding) = rest.split_first_chunk::<4>()?;
    (padding.len() >= 8).then(|| SocketAddrV4::new(Ipv4Addr::from(*ip), u16::from_be_bytes(*port)))
}

/// The rest of a `sockaddr_in6`: port, flow, address, and perhaps a scope.
fn v6(rest: &[u8]) -> Option<SocketAddrV6> {
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (flow, rest) = rest.split_first_chunk::<4>()?;
    let (ip, rest) = rest.split_first_chunk::<16>()?;
    let scope = rest.first_chunk::<4>().map_or(0, |scope| u32::from_ne_bytes(*scope));
    let (ip, port) = (Ipv6Addr::from(*ip), u16::from_be_bytes(*port));
    Some(SocketAddrV6::new(ip, port, u32::from_be_bytes(*flow), scope))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_v4(family: u16, ip: [u8; 4], port: u16) -> Vec<u8> {
        [&family.to_ne_bytes()[..], &port.to_be_bytes(), &ip, &[0; 8]].concat()
    }

    fn bytes_v6(ip: Ipv6Addr, port: u16, scope: u32) -> Vec<u8> {
        let family = INTERNET_6.to_ne_bytes();
        [&family[..], &port.to_be_bytes(), &[0; 4], &ip.octets(), &scope.to_ne_bytes()].concat()
    }

    #[test]
    fn reads_what_programs_write() {
        let loopback = bytes_v4(INTERNET, [127, 0, 0, 1], 8080);
        assert_eq!(read(&loopback), Some("127.0.0.1:8080".parse().unwrap()));
        let any6 = bytes_v6(Ipv6Addr::UNSPECIFIED, 443, 0);
        assert_eq!(read(&any6), Some("[::]:443".parse().unwrap()));
        assert_eq!(read(&any6[..24]), Some("[::]:443".parse().unwrap()));
        let scoped = bytes_v6("fe80::1".parse().unwrap(), 443, 3);
        assert_eq!(read(&scoped), Some("[fe80::1%3]:443".parse().unwrap()));
    }

    #[test]
    fn old_programs_leave_the_family_out() {
        let any = bytes_v4(UNSPECIFIED, [0, 0, 0, 0], 80);
        assert_eq!(read(&any), Some("0.0.0.0:80".parse().unwrap()));
        assert_eq!(read(&bytes_v4(UNSPECIFIED, [127, 0, 0, 1], 80)), None);
    }

    #[test]
    fn what_is_too_short_or_of_another_family_is_none() {
        let v4 = bytes_v4(INTERNET, [127, 0, 0, 1], 80);
        let v6 = bytes_v6(Ipv6Addr::LOCALHOST, 80, 0);
        assert!((0..16).all(|n| read(&v4[..n]).is_none()));
        assert!((0..24).all(|n| read(&v6[..n]).is_none()));
        assert_eq!(read(&bytes_v4(1, [127, 0, 0, 1], 80)), None, "AF_UNIX");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..LONGEST + 8)) {
            let _ = read(&bytes);
        }

        #[test]
        fn an_address_survives_the_round(ip: [u8; 16], port: u16, scope: u32) {
            let read = read(&bytes_v6(ip.into(), port, scope));
            prop_assert_eq!(read, Some(SocketAddrV6::new(ip.into(), port, 0, scope).into()));
        }
    }
}
