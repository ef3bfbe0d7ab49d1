//! Local addresses and settings of this network namespace, as `bind(2)` uses them. Binds nothing.

#![expect(unsafe_code, reason = "NS_GET_USERNS has no safe wrapper")]

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Whether `bind(2)` accepts this IP address as local: a wildcard or multicast address, an IPv4
/// address that the routing table lists as local or broadcast, or an IPv6 address of an interface.
/// With a device, an IPv6 address of less than global scope must be an address of the device.
///
/// Reads `/proc/net/fib_trie` and `/proc/net/if_inet6`. Needs no privilege. Does not follow routing
/// rules that replace the table `local`, nor VRFs.
///
/// # Errors
///
/// Errors of reading these files.
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

/// The addresses of the interfaces, IPv4 first, each once. Of a prefix that is local as a whole, such as
/// 127.0.0.0/8, only single addresses are listed. Reads the same files as [`is_local`]; empty if they cannot
/// be read.
#[must_use]
pub fn list() -> Vec<IpAddr> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut ips: Vec<IpAddr> = ipv4_addresses(&read("/proc/net/fib_trie"))
        .filter(|(_, length, kind)| (*length, *kind) == (32, "LOCAL"))
        .map(|(ip, ..)| ip.into())
        .collect();
    let table = read("/proc/net/if_inet6");
    let first = |line: &str| u128::from_str_radix(line.split_ascii_whitespace().next()?, 16).ok();
    let ipv6 = table.lines().filter_map(first).map(Ipv6Addr::from_bits);
    ips.extend(ipv6.filter(|ip| lists_ipv6(&table, *ip, None)).map(IpAddr::from));
    let mut seen = std::collections::HashSet::new();
    ips.retain(|ip| seen.insert(*ip));
    ips
}

/// Whether this network namespace has an interface of this name (`SIOCGIFINDEX`, `netdevice(7)`).
#[must_use]
pub fn has_device(name: &str) -> bool {
    device_index(name).is_some()
}

/// The number of the interface with this name in this network namespace (`SIOCGIFINDEX`,
/// `netdevice(7)`).
#[must_use]
pub fn device_index(name: &str) -> Option<u32> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)
        .and_then(|socket| rustix::net::netdevice::name_to_index(socket, name))
        .ok()
}

/// The name of the interface with this number in this network namespace (`SIOCGIFNAME`,
/// `netdevice(7)`).
#[must_use]
pub fn device_name(index: u32) -> Option<String> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)
        .and_then(|socket| rustix::net::netdevice::index_to_name(socket, index))
        .ok()
}

/// Whether IPv6 sockets can be opened. Opens one, because `/proc` may be hidden.
#[must_use]
pub fn has_ipv6() -> bool {
    let (family, kind) = (AddressFamily::INET6, SocketType::DGRAM);
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).is_ok()
}

/// Whether every process may bind addresses that are not local: `net.ipv4.ip_nonlocal_bind` or
/// `net.ipv6.ip_nonlocal_bind`. `false` if the setting cannot be read.
#[must_use]
pub fn nonlocal_bind_allowed(ip: IpAddr) -> bool {
    let family = if ip.to_canonical().is_ipv4() { "ipv4" } else { "ipv6" };
    is_set(&format!("/proc/sys/net/{family}/ip_nonlocal_bind"))
}

/// The default of IPV6_V6ONLY for new sockets: `net.ipv6.bindv6only`. `false` if the setting cannot
/// be read.
#[must_use]
pub fn v6only_by_default() -> bool {
    is_set("/proc/sys/net/ipv6/bindv6only")
}

/// Whether the capabilities of this process apply to its network namespace (`NS_GET_USERNS`,
/// `ioctl_ns(2)`, Linux 4.9). `false` after a process entered a user namespace and kept its network
/// namespace, and on an error.
#[must_use]
pub fn owns_netns() -> bool {
    let Ok(network) = fs::File::open("/proc/self/ns/net") else { return false };
    // linux/nsfs.h: _IO(0xb7, 0x1)
    const NS_GET_USERNS: u16 = 0xb701;
    // SAFETY: NS_GET_USERNS takes no argument and returns a new descriptor or an error.
    let owner = unsafe { libc::ioctl(network.as_raw_fd(), NS_GET_USERNS.into()) };
    if owner < 0 {
        // EPERM: the owner is a user namespace outside the one of this process.
        return false;
    }
    // SAFETY: the kernel has just opened this descriptor, and nothing else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(owner) });
    // The kernel returns only the user namespace of this process or a descendant of it.
    true
}

fn is_set(setting: &str) -> bool {
    fs::read_to_string(setting).is_ok_and(|value| value.trim() == "1")
}

/// Whether `/proc/net/fib_trie` lists the address.
fn lists_ipv4(table: &str, ip: Ipv4Addr) -> bool {
    ipv4_addresses(table).any(|(prefix, length, kind)| {
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        matches!(kind, "LOCAL" | "BROADCAST") && u32::from(prefix) & mask == u32::from(ip) & mask
    })
}

/// The entries of `/proc/net/fib_trie`, each with the length of its prefix and its type: a line
/// `|-- 127.0.0.0`, then `/8 host LOCAL`.
fn ipv4_addresses(table: &str) -> impl Iterator<Item = (Ipv4Addr, u32, &str)> {
    let mut prefix: Option<Ipv4Addr> = None;
    table.lines().filter_map(move |line| {
        let line = line.trim_start();
        if let Some(address) = line.strip_prefix("|-- ") {
            prefix = address.trim().parse().ok();
            return None;
        }
        let mut words = line.split_ascii_whitespace();
        let length = words.next()?.strip_prefix('/')?.parse::<u32>().ok()?;
        Some((prefix?, length, words.next_back()?)).filter(|_| length <= 32)
    })
}

/// Whether `/proc/net/if_inet6` lists the address. Fields: address, interface index, prefix length,
/// scope and flags, all hexadecimal, and the name of the interface.
fn lists_ipv6(table: &str, ip: Ipv6Addr, device: Option<&str>) -> bool {
    const HOST_OR_LINK: u32 = 0x10 | 0x20;
    /// `IFA_F_TENTATIVE`: duplicate address detection runs. `bind` accepts such an address with
    /// `IFA_F_OPTIMISTIC` only.
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
        assert!(list().iter().all(|ip| is_local(*ip, None).unwrap()), "{:?}", list());
        assert!(has_device("lo") && !has_device("no-such-device"));
    }

    #[test]
    fn only_local_lines_count() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
                     |-- 10.1.2.0\n        /24 link UNICAST\n           |-- 10.1.2.3\n              \
                     /32 host LOCAL\nLocal:\n     |-- 127.0.0.0\n        /8 host LOCAL\n";
        let cases =
            [("10.1.2.3", true), ("10.1.2.4", false), ("127.1.1.1", true), ("8.8.8.8", false)];
        for (ip, expected) in cases {
            assert_eq!(lists_ipv4(table, ip.parse().unwrap()), expected, "{ip}");
        }
        let single = ipv4_addresses(table).filter(|(_, length, _)| *length == 32);
        assert_eq!(single.map(|(ip, ..)| ip.to_string()).collect::<Vec<_>>(), ["10.1.2.3"]);
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
