//! A port for each worker (`--each PORT`): worker k binds PORT + k - 1 where its program asks for PORT.

use std::fmt;
use std::ops::RangeInclusive;

use crate::bind::map::{MapRule, RuleSide};
use crate::bind::verdict::{PortSet, SharedPort};
use sameport_addr::Protocol;

/// Why ports cannot be given to so many workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EachFault {
    /// The last worker would get a port above 65535.
    PastLastPort(SharedPort),
    /// The ports of two options overlap.
    Overlap(SharedPort, SharedPort),
    /// A map rule for any address moves the same port.
    Mapped(SharedPort, MapRule),
}

impl fmt::Display for EachFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PastLastPort(first) => {
                write!(f, "--each {first}: the last worker would get a port above 65535")
            }
            Self::Overlap(one, other) if one == other => write!(f, "--each {one} is given twice"),
            Self::Overlap(one, other) => write!(
                f,
                "--each {one} and --each {other}: a worker of each would get the same port"
            ),
            Self::Mapped(first, rule) => {
                write!(f, "--each {first} and --map {rule} move the same port")
            }
        }
    }
}

/// Checks the ports of `--each` for a number of workers, beside the rules of `--map`.
#[must_use]
pub fn fault(each: &[SharedPort], copies: u16, rules: &[MapRule]) -> Option<EachFault> {
    let mut before: Vec<(SharedPort, RangeInclusive<u16>)> = Vec::new();
    for first in each.iter().copied() {
        let Some(last) = first.port.checked_add(copies.saturating_sub(1)) else {
            return Some(EachFault::PastLastPort(first));
        };
        let is_other = |own: Protocol| first.protocol.is_some_and(|asked| asked != own);
        let overlaps = |(other, range): &&(SharedPort, RangeInclusive<u16>)| {
            !other.protocol.is_some_and(is_other)
                && first.port <= *range.end()
                && *range.start() <= last
        };
        if let Some((other, _)) = before.iter().find(overlaps) {
            return Some(EachFault::Overlap(*other, first));
        }
        let moves = |rule: &&MapRule| {
            rule.from == RuleSide { ip: None, port: Some(first.port) }
                && !rule.protocol.is_some_and(is_other)
        };
        if let Some(rule) = rules.iter().find(moves) {
            return Some(EachFault::Mapped(first, *rule));
        }
        before.push((first, first.port..=last));
    }
    None
}

/// The rules of one worker, to be added behind those of the run. The first worker has the ports
/// themselves, and needs none.
pub fn rules(each: &[SharedPort], ordinal: u16) -> impl Iterator<Item = MapRule> {
    let side = |port| RuleSide { ip: None, port: Some(port) };
    let moved = move |first: &SharedPort| {
        let port = first.port.checked_add(ordinal.saturating_sub(1))?;
        let rule = MapRule { protocol: first.protocol, from: side(first.port), to: side(port) };
        (port != first.port).then_some(rule)
    };
    each.iter().filter_map(moved)
}

/// The port of one worker in place of a port that `--each` moves. `None`: of any protocol.
#[must_use]
pub fn own_port(each: &[SharedPort], protocol: Option<Protocol>, port: u16, ordinal: u16) -> u16 {
    match each.iter().any(|first| first.includes(protocol, port)) {
        true => port.saturating_add(ordinal.saturating_sub(1)),
        false => port,
    }
}

/// The ports that a worker shares with its replacement, beside those of the run.
#[must_use]
pub fn shared(ports: &PortSet, each: &[SharedPort], ordinal: u16) -> PortSet {
    match ports {
        PortSet::All => PortSet::All,
        PortSet::Only(ports) => {
            let own = each.iter().filter_map(|first| {
                let port = first.port.checked_add(ordinal.saturating_sub(1))?;
                Some(SharedPort { port, ..*first })
            });
            PortSet::Only(ports.iter().copied().chain(own).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn both(port: u16) -> SharedPort {
        SharedPort { port, protocol: None }
    }

    const fn udp(port: u16) -> SharedPort {
        SharedPort { port, protocol: Some(Protocol::Udp) }
    }

    const fn tcp(port: u16) -> SharedPort {
        SharedPort { port, protocol: Some(Protocol::Tcp) }
    }

    #[test]
    fn faults() {
        let rule: MapRule = "9229=9300".parse().unwrap();
        let other: MapRule = "127.0.0.1:9229=9300".parse().unwrap();
        let cases = [
            (&[][..], 1024, None),
            (&[both(9229)], 1, None),
            (&[both(9229)], 1024, None),
            (&[both(65_535)], 1, None),
            (&[both(65_535)], 2, Some(EachFault::PastLastPort(both(65_535)))),
            (&[both(64_512)], 1024, None),
            (&[both(64_513)], 1024, Some(EachFault::PastLastPort(both(64_513)))),
            (&[both(9229), both(9230)], 1, None),
            (&[both(9229), both(9230)], 2, Some(EachFault::Overlap(both(9229), both(9230)))),
            (&[both(9230), both(9229)], 2, Some(EachFault::Overlap(both(9230), both(9229)))),
            (&[both(9229), both(9229)], 1, Some(EachFault::Overlap(both(9229), both(9229)))),
            (&[both(9229), both(9231), both(9300)], 2, None),
            (&[tcp(9229), udp(9229)], 2, None),
            (&[tcp(9229), both(9230)], 2, Some(EachFault::Overlap(tcp(9229), both(9230)))),
        ];
        for (each, copies, expected) in cases {
            assert_eq!(fault(each, copies, &[other]), expected, "{each:?} {copies}");
        }
        assert_eq!(fault(&[both(9229)], 1, &[rule]), Some(EachFault::Mapped(both(9229), rule)));
        assert_eq!(fault(&[both(9230)], 1, &[rule]), None);
        for (port, ordinal, expected) in [(9229, 1, 9229), (9229, 3, 9231), (80, 3, 80)] {
            assert_eq!(own_port(&[both(9229)], None, port, ordinal), expected);
            assert_eq!(own_port(&[udp(9229)], Some(Protocol::Tcp), port, ordinal), port);
        }
    }

    #[test]
    fn each_worker_has_a_port_of_its_own() {
        let texts =
            |ordinal| rules(&[both(9229), both(80)], ordinal).map(|it| it.to_string()).collect();
        for (ordinal, expected) in
            [(1, vec![]), (2, vec!["9229=9230", "80=81"]), (9, vec!["9229=9237", "80=88"])]
        {
            let found: Vec<String> = texts(ordinal);
            assert_eq!(found, expected, "{ordinal}");
        }
        assert_eq!(rules(&[both(65_535)], 2).count(), 0);
        let of_udp: Vec<_> = rules(&[udp(9229)], 2).map(|it| it.to_string()).collect();
        assert_eq!(of_udp, ["9229/udp=9230"]);
    }

    #[test]
    fn the_ports_of_a_worker_are_shared_with_its_replacement() {
        let only = PortSet::Only([both(80)].into());
        assert_eq!(shared(&PortSet::All, &[both(9229)], 2), PortSet::All);
        assert_eq!(shared(&only, &[both(9229)], 1), PortSet::Only([both(80), both(9229)].into()));
        assert_eq!(shared(&only, &[both(9229)], 3), PortSet::Only([both(80), both(9231)].into()));
        assert_eq!(shared(&only, &[], 3), only);
    }
}
