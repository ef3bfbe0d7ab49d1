//! The pairs of a local and a remote address that a connection can have.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::endpoint::ResolvedAddr;
use crate::open::is_mapped;

/// The two addresses of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { local, remote } = self;
        // The unspecified local address is not informative.
        match local.ip().is_unspecified() && local.port() == 0 {
            true => write!(f, "{remote}"),
            false => write!(f, "{local} to {remote}"),
        }
    }
}

/// The pairs to try one after the other: one for each remote address that has a local one, in the
/// order of the remote addresses. The error is the reason why there is none.
pub(crate) fn pairs(local: &[ResolvedAddr], remote: &[ResolvedAddr]) -> Result<Vec<Pair>, String> {
    let local: Vec<SocketAddr> = local.iter().flat_map(ResolvedAddr::addresses).collect();
    let remote: Vec<SocketAddr> = remote.iter().flat_map(ResolvedAddr::addresses).collect();
    let pairs: Vec<_> = remote.iter().filter_map(|remote| pair(&local, *remote)).collect();
    if pairs.is_empty() {
        return Err(mismatch(&local));
    }
    Ok(pairs)
}

/// The pair for one remote address.
fn pair(local: &[SocketAddr], remote: SocketAddr) -> Option<Pair> {
    let same = |local: &&SocketAddr| {
        local.is_ipv4() == remote.is_ipv4() && is_mapped(**local) == is_mapped(remote)
    };
    if let Some(local) = local.iter().find(same) {
        return Some(Pair { local: *local, remote });
    }
    // An IPv4 address can be written as an IPv6 one.
    let remote = unmapped(remote);
    if !remote.is_ipv4() {
        return None;
    }
    if let Some(local) = local.iter().map(|local| unmapped(*local)).find(SocketAddr::is_ipv4) {
        return Some(Pair { local, remote });
    }
    // `[::]` means every IPv4 address too. An IPv4 socket has the IPv4 part of it on every system,
    // also where no socket takes both families.
    let wildcard = local.iter().find(|local| local.ip().is_unspecified())?;
    Some(Pair { local: (Ipv4Addr::UNSPECIFIED, wildcard.port()).into(), remote })
}

/// The reason why no local address fits, for addresses of one family each.
fn mismatch(local: &[SocketAddr]) -> String {
    let (near, far) = match local.iter().all(|local| unmapped(*local).is_ipv4()) {
        true => ("IPv4", "IPv6"),
        false => ("IPv6", "IPv4"),
    };
    let more = match local.iter().any(|local| local.ip() == Ipv4Addr::UNSPECIFIED) {
        true => "; [::] and a bare port are for both",
        false => "",
    };
    format!(
        "the two have no address of the same family: the local end is {near}, the remote end {far}{more}"
    )
}

/// The IPv4 address of a mapped one (`::ffff:127.0.0.1`); any other address as it is.
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => (ip, address.port()).into(),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Vec<ResolvedAddr> {
        let one = |part: &str| match part.strip_prefix('*') {
            Some(port) => ResolvedAddr::Any(port[1..].parse().unwrap()),
            None => ResolvedAddr::Socket(part.parse().unwrap()),
        };
        text.split(' ').map(one).collect()
    }

    #[test]
    fn every_combination_of_families() {
        for (local, remote, expected) in [
            ("127.0.0.1:1", "127.0.0.2:9", "127.0.0.1:1>127.0.0.2:9"),
            ("[::1]:1", "[::2]:9", "[::1]:1>[::2]:9"),
            ("0.0.0.0:1", "127.0.0.2:9", "0.0.0.0:1>127.0.0.2:9"),
            ("[::]:1", "[::2]:9", "[::]:1>[::2]:9"),
            ("[::]:1", "127.0.0.2:9", "0.0.0.0:1>127.0.0.2:9"),
            ("*:1", "127.0.0.2:9", "0.0.0.0:1>127.0.0.2:9"),
            ("*:1", "[::2]:9", "[::]:1>[::2]:9"),
            ("*:0", "*:9", "[::]:0>[::]:9 0.0.0.0:0>0.0.0.0:9"),
            ("[::]:1", "[::ffff:127.0.0.2]:9", "0.0.0.0:1>127.0.0.2:9"),
            ("[::1]:1 [::]:2", "127.0.0.2:9", "0.0.0.0:2>127.0.0.2:9"),
            ("[::]:1 127.0.0.1:2", "127.0.0.2:9", "127.0.0.1:2>127.0.0.2:9"),
            (
                "[::ffff:127.0.0.1]:1",
                "[::ffff:127.0.0.2]:9",
                "[::ffff:127.0.0.1]:1>[::ffff:127.0.0.2]:9",
            ),
            ("[::ffff:127.0.0.1]:1", "127.0.0.2:9", "127.0.0.1:1>127.0.0.2:9"),
            ("127.0.0.1:1", "[::ffff:127.0.0.2]:9", "127.0.0.1:1>127.0.0.2:9"),
            ("127.0.0.1:1", "[::2]:8 127.0.0.2:9", "127.0.0.1:1>127.0.0.2:9"),
            ("127.0.0.1:1", "[::2]:9", "! the local end is IPv4, the remote end IPv6"),
            ("[::ffff:127.0.0.1]:1", "[::2]:9", "! the local end is IPv4, the remote end IPv6"),
            ("0.0.0.0:1", "[::2]:9", "! the remote end IPv6; [::] and a bare port are for both"),
            ("[::1]:1", "127.0.0.2:9", "! the local end is IPv6, the remote end IPv4"),
            ("[::1]:1", "[::ffff:127.0.0.2]:9", "! the local end is IPv6, the remote end IPv4"),
        ] {
            let found = pairs(&resolved(local), &resolved(remote));
            match (expected.strip_prefix("! "), found) {
                (Some(end), Err(note)) => assert!(note.ends_with(end), "{local} {remote}: {note}"),
                (None, Ok(pairs)) => {
                    let texts: Vec<_> = pairs
                        .iter()
                        .map(|pair| format!("{}>{}", pair.local, pair.remote))
                        .collect();
                    assert_eq!(texts.join(" "), expected, "{local} {remote}");
                }
                (_, found) => panic!("{local} {remote}: {found:?}"),
            }
        }
    }
}
