//! Reading `/proc/net/{tcp,tcp6,udp,udp6}`: who holds an address. Pure: lines in, verdict out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sameport_addr::Address;

/// Who is in the way of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressHolder {
    /// No line overlaps it. A TCP socket that is bound and does not listen has no line.
    Nobody,
    /// Only connections in TIME-WAIT, which belong to nobody.
    Closing,
    /// A socket of this user.
    Held(u32),
}

/// One line of the tables.
struct ProcNetLine {
    local: SocketAddr,
    state: u8,
    uid: u32,
}

/// `TCP_TIME_WAIT` and `TCP_LISTEN` of `include/net/tcp_states.h`.
const TIME_WAIT: u8 = 6;
const LISTEN: u8 = 10;

/// Finds the socket most likely in the way of `wanted` among the lines of both families' tables:
/// one on the very address before one that overlaps it, a listener before a connection.
pub(super) fn holder<'a>(lines: impl Iterator<Item = &'a str>, wanted: &Address) -> AddressHolder {
    let mut best: Option<(bool, bool, u32)> = None;
    let mut closing = false;
    for line in lines.filter_map(read) {
        // The tables do not tell V6ONLY: every `[::]` counts as one that takes IPv4 too.
        if !Address::new(wanted.protocol, line.local).overlaps(wanted) {
            continue;
        }
        if line.state == TIME_WAIT {
            closing = true;
            continue;
        }
        let (exact, listens) = (line.local == wanted.socket, line.state == LISTEN);
        if best.is_none_or(|(e, l, _)| (exact, listens) > (e, l)) {
            best = Some((exact, listens, line.uid));
        }
    }
    match best {
        Some((_, _, uid)) => AddressHolder::Held(uid),
        None if closing => AddressHolder::Closing,
        None => AddressHolder::Nobody,
    }
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid …`; the heading and
/// anything else is none.
fn read(line: &str) -> Option<ProcNetLine> {
    let mut words = line.split_ascii_whitespace();
    let local = address(words.nth(1)?)?;
    let state = u8::from_str_radix(words.nth(1)?, 16).ok()?;
    let uid = words.nth(3)?.parse().ok()?;
    Some(ProcNetLine { local, state, uid })
}

/// `0100007F:1F90`: the address in words of 32 bits as the machine has them, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
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
    const EVERY4: &str = "00000000:1F90";
    const EVERY6: &str = "00000000000000000000000000000000:1F90";
    const LOOPBACK6: &str = "00000000000000000000000001000000:1F90";

    #[test]
    fn addresses_are_read() {
        for (text, expected) in [
            (LOOPBACK, Some("127.0.0.1:8080")),
            (LOOPBACK6, Some("[::1]:8080")),
            (EVERY6, Some("[::]:8080")),
            ("0000000000000000FFFF00000100007F:0050", Some("[::ffff:127.0.0.1]:80")),
            ("0100007F", None),
            ("0100007:1F90", None),
            ("0100007G:1F90", None),
            ("é00007F:1F90", None),
            ("0100007F:11F90", None),
            ("", None),
        ] {
            assert_eq!(address(text), expected.map(|e| e.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn the_holder_is_found() {
        type Row = (&'static str, &'static str, u32);
        let cases: &[(&str, &[Row], AddressHolder)] = &[
            ("127.0.0.1:8080", &[], AddressHolder::Nobody),
            ("127.0.0.1:8080", &[(LOOPBACK, "0A", 33)], AddressHolder::Held(33)),
            ("127.0.0.1:8081", &[(LOOPBACK, "0A", 33)], AddressHolder::Nobody),
            ("127.0.0.2:8080", &[(LOOPBACK, "0A", 33)], AddressHolder::Nobody),
            ("127.0.0.2:8080", &[(EVERY4, "0A", 33)], AddressHolder::Held(33)),
            ("127.0.0.2:8080", &[(EVERY6, "0A", 33)], AddressHolder::Held(33)),
            ("0.0.0.0:8080", &[(LOOPBACK, "0A", 33)], AddressHolder::Held(33)),
            ("[::]:8080", &[(LOOPBACK, "0A", 33)], AddressHolder::Held(33)),
            ("[::1]:8080", &[(LOOPBACK, "0A", 33)], AddressHolder::Nobody),
            ("[::1]:8080", &[(EVERY4, "0A", 33), (LOOPBACK6, "0A", 34)], AddressHolder::Held(34)),
            // Connections that a listener left behind.
            ("127.0.0.1:8080", &[(LOOPBACK, "06", 0)], AddressHolder::Closing),
            ("127.0.0.1:8080", &[(LOOPBACK, "06", 0), (LOOPBACK, "01", 7)], AddressHolder::Held(7)),
            // The listener, not somebody's connection; the address itself, not the wildcard.
            ("127.0.0.1:8080", &[(LOOPBACK, "01", 7), (LOOPBACK, "0A", 8)], AddressHolder::Held(8)),
            ("127.0.0.1:8080", &[(EVERY4, "0A", 7), (LOOPBACK, "01", 8)], AddressHolder::Held(8)),
        ];
        for (wanted, table, expected) in cases {
            let wanted = Address::new(Protocol::Tcp, wanted.parse().unwrap());
            let lines: Vec<String> =
                table.iter().map(|(local, state, uid)| line(local, state, *uid)).collect();
            let all = std::iter::once(HEADING).chain(lines.iter().map(String::as_str));
            assert_eq!(holder(all, &wanted), *expected, "{wanted} {table:?}");
        }
    }

    #[test]
    fn broken_lines_are_passed_over() {
        let wanted = Address::new(Protocol::Tcp, "127.0.0.1:8080".parse().unwrap());
        let whole = line(LOOPBACK, "0A", 33);
        for end in 0..whole.len() - 30 {
            // Never a wrong answer from half a line: nobody, or the right user.
            let found = holder(std::iter::once(&whole[..end]), &wanted);
            assert!(
                matches!(found, AddressHolder::Nobody | AddressHolder::Held(3 | 33)),
                "{end}: {found:?}"
            );
        }
    }
}
