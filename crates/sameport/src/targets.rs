//! The addresses that an endpoint means for given options: which sockets to open, in which order.

use std::net::SocketAddr;

use sameport_addr::contains_ip;

use crate::endpoint::{ResolvedAddr, wildcards};
use crate::options::Options;
use crate::support::DualStack;

/// One address to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// [`Options::v6only`] for this address.
    pub(crate) v6only: Option<bool>,
    pub(crate) without_ipv6: WithoutIpv6,
}

impl Target {
    /// Whether a socket on one of the addresses receives traffic for the other one.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.address, other.address);
        let scopes = match (mine, theirs) {
            (SocketAddr::V6(mine), SocketAddr::V6(theirs)) => {
                let scopes = [mine.scope_id(), theirs.scope_id()];
                scopes.contains(&0) || scopes[0] == scopes[1]
            }
            _ => true,
        };
        let contains = |wide: &Self, narrow: &Self| {
            contains_ip(wide.address.ip(), wide.v6only == Some(true), narrow.address.ip())
        };
        let ips = contains(self, other) || contains(other, self);
        mine.port() == theirs.port() && scopes && ips
    }
}

/// Two addresses that overlap, in the order of `targets`.
pub(crate) fn overlapping(targets: &[Target]) -> Option<(SocketAddr, SocketAddr)> {
    targets.iter().enumerate().find_map(|(index, second)| {
        let first = targets[..index].iter().find(|first| first.overlaps(second))?;
        Some((first.address, second.address))
    })
}

/// The treatment of an IPv6 address on a machine without IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithoutIpv6 {
    /// The caller named the address: fail.
    Fail,
    /// The address is one of several of a name or bare port: omit it.
    Omit,
    /// The address is `[::]` of a bare port: open `0.0.0.0` instead.
    Ipv4,
}

/// The addresses to try one after the other, until one can be opened.
pub(crate) fn first_of(options: &Options, resolved: &[ResolvedAddr]) -> Vec<Target> {
    of(options, resolved, false)
}

/// The addresses to open together.
///
/// `dual_stack` is the fact about the running system.
pub(crate) fn all_of(
    options: &Options,
    resolved: &[ResolvedAddr],
    dual_stack: DualStack,
) -> Vec<Target> {
    let mut targets = of(options, resolved, needs_two_sockets(options, dual_stack));
    // Where both wildcard addresses of one port are named, the IPv6 socket must exclude IPv4.
    let ipv4: Vec<u16> = targets.iter().filter_map(|t| wildcard_port(t, true)).collect();
    for target in &mut targets {
        if wildcard_port(target, false).is_some_and(|port| ipv4.contains(&port)) {
            target.v6only = target.v6only.or(Some(true));
        }
    }
    targets
}

fn of(options: &Options, resolved: &[ResolvedAddr], two_sockets: bool) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    let mut add = |address: SocketAddr, v6only, without_ipv6| {
        if !targets.iter().any(|other| other.address == address) {
            targets.push(Target { address, v6only, without_ipv6 });
        }
    };
    // A name or list can have both families; the option exists for IPv6 only. On a single IPv4
    // address it is a contradiction, which opening reports.
    let single = resolved.len() == 1;
    let filtered = |address: &SocketAddr| options.v6only.filter(|_| address.is_ipv6());
    for one in resolved {
        match one {
            ResolvedAddr::Any(port) if two_sockets => {
                let [both, ipv4] = wildcards(*port);
                add(both, Some(true), WithoutIpv6::Omit);
                add(ipv4, None, WithoutIpv6::Fail);
            }
            ResolvedAddr::Any(port) => {
                let ipv6_only = options.v6only == Some(true);
                let otherwise = if ipv6_only { WithoutIpv6::Fail } else { WithoutIpv6::Ipv4 };
                add(wildcards(*port)[0], options.v6only, otherwise);
            }
            ResolvedAddr::Socket(address) if single => {
                add(*address, options.v6only, WithoutIpv6::Fail);
            }
            ResolvedAddr::Socket(address) => add(*address, filtered(address), WithoutIpv6::Fail),
            ResolvedAddr::Named(all) => {
                for address in all {
                    add(*address, filtered(address), WithoutIpv6::Omit);
                }
            }
        }
    }
    targets
}

/// Whether a bare port needs one socket for each family.
fn needs_two_sockets(options: &Options, dual_stack: DualStack) -> bool {
    options.v6only.is_none()
        && match dual_stack {
            DualStack::OneSocket => false,
            DualStack::OneSocketNotBalanced => options.shared,
            DualStack::TwoSockets => true,
        }
}

/// The port of a wildcard address of one family.
fn wildcard_port(target: &Target, ipv4: bool) -> Option<u16> {
    let is_it = target.address.is_ipv4() == ipv4 && target.address.ip().is_unspecified();
    is_it.then(|| target.address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Vec<ResolvedAddr> {
        let socket = |part: &str| part.parse::<SocketAddr>().unwrap();
        let one = |part: &str| {
            if let Some(port) = part.strip_prefix("*:") {
                return ResolvedAddr::Any(port.parse().unwrap());
            }
            match part.split_once('=') {
                Some((_, all)) => ResolvedAddr::Named(all.split(',').map(socket).collect()),
                None => ResolvedAddr::Socket(socket(part)),
            }
        };
        text.split(' ').map(one).collect()
    }

    /// Each target as `ADDRESS`, `ADDRESS/6` (IPv6 only) or `ADDRESS/46` (both, by request), with `?`
    /// if it is omitted without IPv6, and `|4` if IPv4 is opened instead.
    fn text(targets: &[Target]) -> String {
        let one = |target: &Target| {
            let only = match target.v6only {
                None => "",
                Some(true) => "/6",
                Some(false) => "/46",
            };
            let absent = match target.without_ipv6 {
                WithoutIpv6::Fail => "",
                WithoutIpv6::Omit => "?",
                WithoutIpv6::Ipv4 => "|4",
            };
            format!("{}{only}{absent}", target.address)
        };
        targets.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn all_addresses() {
        use DualStack::{OneSocket, OneSocketNotBalanced, TwoSockets};
        let shared = Options::shared;
        for (options, dual_stack, addresses, expected) in [
            (shared(), OneSocket, "*:1", "[::]:1|4"),
            (shared(), TwoSockets, "*:1", "[::]:1/6? 0.0.0.0:1"),
            (shared(), OneSocketNotBalanced, "*:1", "[::]:1/6? 0.0.0.0:1"),
            (Options::exclusive(), OneSocketNotBalanced, "*:1", "[::]:1|4"),
            (shared().v6only(true), TwoSockets, "*:1", "[::]:1/6"),
            (shared().v6only(false), OneSocket, "*:1", "[::]:1/46|4"),
            (shared(), OneSocket, "127.0.0.1:1", "127.0.0.1:1"),
            (shared(), OneSocket, "n=[::1]:1,127.0.0.1:1", "[::1]:1? 127.0.0.1:1?"),
            (shared().v6only(true), OneSocket, "n=[::1]:1,127.0.0.1:1", "[::1]:1/6? 127.0.0.1:1?"),
            // A contradiction of one address stays visible, and concerns IPv6 of several.
            (shared().v6only(true), OneSocket, "127.0.0.1:1", "127.0.0.1:1/6"),
            (shared().v6only(true), OneSocket, "127.0.0.1:1 [::1]:1", "127.0.0.1:1 [::1]:1/6"),
            // Both wildcards of one port: the IPv6 socket leaves IPv4 to the other one.
            (shared(), OneSocket, "[::]:1 0.0.0.0:1", "[::]:1/6 0.0.0.0:1"),
            (shared(), OneSocket, "0.0.0.0:1 *:1", "0.0.0.0:1 [::]:1/6|4"),
            (shared(), OneSocket, "[::]:1 0.0.0.0:2", "[::]:1 0.0.0.0:2"),
            (shared().v6only(false), OneSocket, "[::]:1 0.0.0.0:1", "[::]:1/46 0.0.0.0:1"),
            // No address twice.
            (
                shared(),
                OneSocket,
                "127.0.0.1:1 n=127.0.0.1:1 127.0.0.1:2",
                "127.0.0.1:1 127.0.0.1:2",
            ),
        ] {
            let found = all_of(&options, &resolved(addresses), dual_stack);
            assert_eq!(text(&found), expected, "{addresses} {options:?} {dual_stack:?}");
        }
    }

    #[test]
    fn overlaps() {
        for (addresses, expected) in [
            ("127.0.0.1:1 127.0.0.2:1", None),
            ("127.0.0.1:1 0.0.0.0:1", Some("127.0.0.1:1 0.0.0.0:1")),
            ("127.0.0.1:0 0.0.0.0:0", Some("127.0.0.1:0 0.0.0.0:0")),
            ("127.0.0.1:1 0.0.0.0:2", None),
            ("*:1 127.0.0.1:1", Some("[::]:1 127.0.0.1:1")),
            ("[::1]:2 127.0.0.1:1 *:1", Some("127.0.0.1:1 [::]:1")),
            ("[::]:1 0.0.0.0:1", None),
            ("[::]:1 0.0.0.0:1 [::1]:1", Some("[::]:1 [::1]:1")),
            ("[fe80::1%2]:1 [fe80::1%3]:1", None),
            ("[fe80::1%2]:1 [::]:1", Some("[fe80::1%2]:1 [::]:1")),
        ] {
            let all = all_of(&Options::shared(), &resolved(addresses), DualStack::OneSocket);
            let found = overlapping(&all).map(|(first, second)| format!("{first} {second}"));
            assert_eq!(found.as_deref(), expected, "{addresses}");
        }
    }

    #[test]
    fn the_first_possible_address() {
        for (options, addresses, expected) in [
            (Options::shared(), "*:1", "[::]:1|4"),
            (Options::shared().v6only(true), "*:1", "[::]:1/6"),
            (Options::shared(), "[::]:1 0.0.0.0:1", "[::]:1 0.0.0.0:1"),
            (Options::shared(), "n=[::1]:1,127.0.0.1:1 *:2", "[::1]:1? 127.0.0.1:1? [::]:2|4"),
        ] {
            assert_eq!(text(&first_of(&options, &resolved(addresses))), expected, "{addresses}");
        }
    }
}
