//! Parses `/proc/net/{tcp,tcp6,udp,udp6}`, proc_pid_net(5), to find the owner of an address.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sameport_addr::Address;

use crate::socket_job::SocketJob;

/// The owner of the socket that conflicts with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortOwner {
    /// No line overlaps the address. A TCP socket that is bound but not listening has no line.
    None,
    /// Only connections in TIME-WAIT, which have no owner.
    TimeWait,
    /// A user id.
    User(u32),
}

/// One line of the tables.
struct ProcNetLine {
    local: SocketAddr,
    state: u8,
    uid: u32,
    inode: u64,
}

/// `TCP_TIME_WAIT` and `TCP_LISTEN` of `include/net/tcp_states.h`.
const TIME_WAIT: u8 = 6;
const LISTEN: u8 = 10;

/// Finds the owner of the socket that most likely conflicts with `address` in the tables of both
/// families: an equal address before an overlapping one, a listener before a connection.
pub(super) fn find_owner<'a>(lines: impl Iterator<Item = &'a str>, address: &Address) -> PortOwner {
    let mut best: Option<(bool, bool, u32)> = None;
    let mut closing = false;
    for line in lines.filter_map(parse_line) {
        // The tables omit `IPV6_V6ONLY`, so every `[::]` counts as dual-stack.
        if !Address::new(address.protocol, line.local).overlaps(address) {
            continue;
        }
        if line.state == TIME_WAIT {
            closing = true;
            continue;
        }
        let (exact, listens) = (line.local == address.socket, line.state == LISTEN);
        if best.map_or(true, |(e, l, _)| (exact, listens) > (e, l)) {
            best = Some((exact, listens, line.uid));
        }
    }
    match best {
        Some((_, _, uid)) => PortOwner::User(uid),
        None if closing => PortOwner::TimeWait,
        None => PortOwner::None,
    }
}

/// The inodes of the sockets that are in a group, of any device and user, if they share `job`'s address.
///
/// A table of TCP sockets has the listeners first (`net/ipv4/tcp_ipv4.c`), so the rest is not read.
pub(super) fn sockets_of(lines: impl Iterator<Item = String>, job: &SocketJob) -> BTreeSet<u64> {
    let is_same =
        |local: SocketAddr| (local.ip(), local.port()) == (job.address.ip(), job.address.port());
    lines
        .skip(1)
        .map_while(|line| parse_line(&line))
        .take_while(|line| !job.tcp || line.state == LISTEN)
        .filter(|line| is_same(line.local))
        .map(|line| line.inode)
        .collect()
}

/// Parses `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid …`.
/// `None` for the heading and for any other text.
fn parse_line(line: &str) -> Option<ProcNetLine> {
    let mut words = line.split_ascii_whitespace();
    let local = parse_address(words.nth(1)?)?;
    let state = u8::from_str_radix(words.nth(1)?, 16).ok()?;
    let uid = words.nth(3)?.parse().ok()?;
    // A truncated line has an owner, but no inode.
    let inode = words.nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    Some(ProcNetLine { local, state, uid, inode })
}

/// Parses `0100007F:1F90`: the IP address in 32-bit words of the machine's byte order, and the port
/// as a number.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word =
        |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use sameport_addr::Protocol;

    use super::*;

    const HEADING: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";

    fn line(local: &str, state: &str, uid: u32) -> String {
        format!(
            "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {uid}        0 12345 1 0 100 0 0 10 0"
        )
    }

    const LOOPBACK: &str = "0100007F:1F90";
    const ANY4: &str = "00000000:1F90";
    const ANY6: &str = "00000000000000000000000000000000:1F90";
    const LOOPBACK6: &str = "00000000000000000000000001000000:1F90";

    #[test]
    fn addresses_are_parsed() {
        for (text, expected) in [
            (LOOPBACK, Some("127.0.0.1:8080")),
            (LOOPBACK6, Some("[::1]:8080")),
            (ANY6, Some("[::]:8080")),
            ("0000000000000000FFFF00000100007F:0050", Some("[::ffff:127.0.0.1]:80")),
            ("0100007F", None),
            ("0100007:1F90", None),
            ("0100007G:1F90", None),
            ("é00007F:1F90", None),
            ("0100007F:11F90", None),
            ("", None),
        ] {
            assert_eq!(parse_address(text), expected.map(|e| e.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn the_owner_is_found() {
        type Row = (&'static str, &'static str, u32);
        let cases: &[(&str, &[Row], PortOwner)] = &[
            ("127.0.0.1:8080", &[], PortOwner::None),
            ("127.0.0.1:8080", &[(LOOPBACK, "0A", 33)], PortOwner::User(33)),
            ("127.0.0.1:8081", &[(LOOPBACK, "0A", 33)], PortOwner::None),
            ("127.0.0.2:8080", &[(LOOPBACK, "0A", 33)], PortOwner::None),
            ("127.0.0.2:8080", &[(ANY4, "0A", 33)], PortOwner::User(33)),
            ("127.0.0.2:8080", &[(ANY6, "0A", 33)], PortOwner::User(33)),
            ("0.0.0.0:8080", &[(LOOPBACK, "0A", 33)], PortOwner::User(33)),
            ("[::]:8080", &[(LOOPBACK, "0A", 33)], PortOwner::User(33)),
            ("[::1]:8080", &[(LOOPBACK, "0A", 33)], PortOwner::None),
            ("[::1]:8080", &[(ANY4, "0A", 33), (LOOPBACK6, "0A", 34)], PortOwner::User(34)),
            // Connections of a closed listener.
            ("127.0.0.1:8080", &[(LOOPBACK, "06", 0)], PortOwner::TimeWait),
            ("127.0.0.1:8080", &[(LOOPBACK, "06", 0), (LOOPBACK, "01", 7)], PortOwner::User(7)),
            // A listener before a connection; an equal address before the wildcard.
            ("127.0.0.1:8080", &[(LOOPBACK, "01", 7), (LOOPBACK, "0A", 8)], PortOwner::User(8)),
            ("127.0.0.1:8080", &[(ANY4, "0A", 7), (LOOPBACK, "01", 8)], PortOwner::User(8)),
        ];
        for (address, table, expected) in cases {
            let address = Address::new(Protocol::Tcp, address.parse().unwrap());
            let lines: Vec<String> =
                table.iter().map(|(local, state, uid)| line(local, state, *uid)).collect();
            let all = std::iter::once(HEADING).chain(lines.iter().map(String::as_str));
            assert_eq!(find_owner(all, &address), *expected, "{address} {table:?}");
        }
    }

    #[test]
    fn truncated_lines_yield_no_wrong_owner() {
        let address = Address::new(Protocol::Tcp, "127.0.0.1:8080".parse().unwrap());
        let whole = line(LOOPBACK, "0A", 33);
        for end in 0..whole.len() - 30 {
            // A truncated line yields no owner, the owner, or a prefix of its number.
            let found = find_owner(std::iter::once(&whole[..end]), &address);
            assert!(matches!(found, PortOwner::None | PortOwner::User(3 | 33)), "{end}: {found:?}");
        }
    }
}
