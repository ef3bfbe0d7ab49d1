//! Which addresses are this machine's, as `bind` sees it: without binding anything.
#![expect(unsafe_code, reason = "NS_GET_USERNS has no safe wrapper")]

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Whether `bind` takes this IP for one of this machine's: a wildcard, an address that the routing table
/// has as local, broadcast or multicast (IPv4), or one that an interface has (IPv6). With a device, an
/// IPv6 address of less than global scope must be that device's.
///
/// Reads `/proc/net/fib_trie` and `/proc/net/if_inet6`; no privilege, nothing is bound. Routing rules
/// that replace the table `local`, and VRFs, are not followed.
///
/// # Errors
///
/// Where these files cannot be read.
pub fn is_local(ip: IpAddr, device: Option<&str>) -> io::Result<bool> {
    match ip.to_canonical() {
        ip if ip.is_unspecified() => Ok(true),
        IpAddr::V4(ip) if ip.is_multicast() || ip.is_broadcast() => Ok(true),
        IpAddr::V4(ip) => Ok(lists_ipv4(&fs::read_to_string("/proc/net/fib_trie")?, ip)),
        IpAddr::V6(ip) if ip.is_multicast() => Ok(true),
        IpAddr::V6(ip) => match fs::read_to_string("/proc/net/if_inet6") {
            Ok(table) => Ok(lists_ipv6(&table, ip, device)),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        },
    }
}

/// Whether there is an interface of this name in the caller's network namespace.
#[must_use]
pub fn has_device(name: &str) -> bool {
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)
        .and_then(|any| rustix::net::netdevice::name_to_index(any, name))
        .is_ok()
}

/// Whether sockets have IPv6 here. Does not take `/proc` for it, which may be hidden.
#[must_use]
pub fn has_ipv6() -> bool {
    let (family, kind) = (AddressFamily::INET6, SocketType::DGRAM);
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).is_ok()
}

/// Whether everybody may bind addresses that are not this machine's: `net.ipv4.ip_nonlocal_bind`, or its
/// IPv6 sister. False where it cannot be read.
#[must_use]
pub fn nonlocal_bind_allowed(ip: IpAddr) -> bool {
    let family = if ip.to_canonical().is_ipv4() { "ipv4" } else { "ipv6" };
    is_set(&format!("/proc/sys/net/{family}/ip_nonlocal_bind"))
}

/// Whether a new IPv6 socket refuses IPv4 unless told otherwise: `net.ipv6.bindv6only`. False where it
/// cannot be read.
#[must_use]
pub fn v6only_by_default() -> bool {
    is_set("/proc/sys/net/ipv6/bindv6only")
}

/// Whether the caller's capabilities count for the network namespace that it is in: not for one who
/// entered a user namespace and left the network as it was. Linux 4.9; false where it cannot be told.
#[must_use]
pub fn owns_netns() -> bool {
    let Ok(network) = fs::File::open("/proc/self/ns/net") else { return false };
    // linux/nsfs.h: _IO(0xb7, 0x1)
    const NS_GET_USERNS: u16 = 0xb701;
    // SAFETY: NS_GET_USERNS takes no argument, and gives a new descriptor or an error.
    let owner = unsafe { libc::ioctl(network.as_raw_fd(), NS_GET_USERNS.into()) };
    if owner < 0 {
        // EPERM: it belongs to a user namespace outside of ours.
        return false;
    }
    // SAFETY: the kernel has just made it for us, and nobody else has it.
    drop(unsafe { OwnedFd::from_raw_fd(owner) });
    // Ours, or one below it: of no other the kernel would have told.
    true
}

fn is_set(setting: &str) -> bool {
    fs::read_to_string(setting).is_ok_and(|value| value.trim() == "1")
}

/// `|-- 127.0.0.0`, and below it `/8 host LOCAL`.
fn lists_ipv4(table: &str, ip: Ipv4Addr) -> bool {
    let mut at: Option<Ipv4Addr> = None;
    for line in table.lines() {
        let line = line.trim_start();
        if let Some(address) = line.strip_prefix("|-- ") {
            at = address.trim().parse().ok();
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let length = words.next().and_then(|word| word.strip_prefix('/')?.parse::<u32>().ok());
        let kind = words.next_back();
        if let (Some(at), Some(length @ 0..=32), Some("LOCAL" | "BROADCAST")) = (at, length, kind) {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            if u32::from(at) & mask == u32::from(ip) & mask {
                return true;
            }
        }
    }
    false
}

/// Address, interface, prefix length, scope and flags, all hexadecimal, and the interface's name.
fn lists_ipv6(table: &str, ip: Ipv6Addr, device: Option<&str>) -> bool {
    const HOST_OR_LINK: u32 = 0x10 | 0x20;
    /// Somebody else may have it (`IFA_F_TENTATIVE`), unless it is used all the same (`IFA_F_OPTIMISTIC`).
    const TENTATIVE: u32 = 0x40;
    const OPTIMISTIC: u32 = 0x04;
    let hexadecimal = |text: &str| u32::from_str_radix(text, 16).ok();
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [address, _, _, scope, flags, name] = words[..] else { return false };
        let (Some(scope), Some(flags)) = (hexadecimal(scope), hexadecimal(flags)) else {
            return false;
        };
        u128::from_str_radix(address, 16).is_ok_and(|bits| Ipv6Addr::from_bits(bits) == ip)
            && (flags & TENTATIVE == 0 || flags & OPTIMISTIC != 0)
            && (scope & HOST_OR_LINK == 0 || device.is_none_or(|device| device == name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_bind() {
        let ips = [
            "127.0.0.1",
            "127.9.8.7",
            "127.255.255.255",
            "0.0.0.0",
            "192.0.2.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:192.0.2.1",
            "2001:db8::1",
        ];
        for ip in ips.map(|ip| ip.parse::<IpAddr>().unwrap()) {
            let bound = match std::net::UdpSocket::bind((ip, 0)) {
                Ok(_) => true,
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => false,
                // A machine without IPv6.
                Err(_) => continue,
            };
            assert_eq!(is_local(ip, None).unwrap(), bound, "{ip}");
        }
        assert!(has_device("lo") && !has_device("no-such-device"));
    }

    #[test]
    fn only_lines_that_say_so_count() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
                     |-- 10.1.2.0\n        /24 link UNICAST\n           |-- 10.1.2.3\n              \
                     /32 host LOCAL\nLocal:\n     |-- 127.0.0.0\n        /8 host LOCAL\n";
        let cases =
            [("10.1.2.3", true), ("10.1.2.4", false), ("127.1.1.1", true), ("8.8.8.8", false)];
        for (ip, expected) in cases {
            assert_eq!(lists_ipv4(table, ip.parse().unwrap()), expected, "{ip}");
        }
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe800000000000000000000000000001 02 40 20 80     eth0\n\
                     20010db8000000000000000000000001 02 40 00 80     eth0\n\
                     20010db8000000000000000000000002 02 40 00 40     eth0\n\
                     broken\n";
        let cases = [
            ("::1", None, true),
            ("::1", Some("lo"), true),
            ("::1", Some("eth0"), false),
            ("fe80::1", Some("eth0"), true),
            ("2001:db8::1", Some("lo"), true),
            ("2001:db8::2", None, false),
            ("2001:db8::3", None, false),
        ];
        for (ip, device, expected) in cases {
            assert_eq!(lists_ipv6(table, ip.parse().unwrap(), device), expected, "{ip} {device:?}");
        }
    }
}
