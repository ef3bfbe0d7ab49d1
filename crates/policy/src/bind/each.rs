//! A port for each worker (`--each PORT`): worker k binds PORT + k - 1 where its program asks for PORT.

use std::fmt;
use std::ops::RangeInclusive;

use crate::bind::map::{MapRule, RuleSide};
use crate::bind::verdict::PortSet;

/// Why ports cannot be given to so many workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EachFault {
    /// The last worker would get a port above 65535.
    PastLastPort(u16),
    /// The ports of two options overlap.
    Overlap(u16, u16),
    /// A map rule for any address moves the same port.
    Mapped(u16, MapRule),
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
pub fn fault(each: &[u16], copies: u16, rules: &[MapRule]) -> Option<EachFault> {
    let mut before: Vec<RangeInclusive<u16>> = Vec::new();
    for first in each {
        let Some(last) = first.checked_add(copies.saturating_sub(1)) else {
            return Some(EachFault::PastLastPort(*first));
        };
        let overlaps =
            |other: &&RangeInclusive<u16>| first <= other.end() && other.start() <= &last;
        if let Some(other) = before.iter().find(overlaps) {
            return Some(EachFault::Overlap(*other.start(), *first));
        }
        let moves = |rule: &&MapRule| rule.from == RuleSide { ip: None, port: Some(*first) };
        if let Some(rule) = rules.iter().find(moves) {
            return Some(EachFault::Mapped(*first, *rule));
        }
        before.push(*first..=last);
    }
    None
}

/// The rules of one worker, to be added behind those of the run. The first worker has the ports
/// themselves, and needs none.
pub fn rules(each: &[u16], ordinal: u16) -> impl Iterator<Item = MapRule> {
    let side = |port| RuleSide { ip: None, port: Some(port) };
    let moved = move |first: &u16| {
        let port = first.checked_add(ordinal.saturating_sub(1)).filter(|port| port != first)?;
        Some(MapRule { protocol: None, from: side(*first), to: side(port) })
    };
    each.iter().filter_map(moved)
}

/// The port of one worker in place of a port that `--each` moves.
#[must_use]
pub fn own_port(each: &[u16], port: u16, ordinal: u16) -> u16 {
    match each.contains(&port) {
        true => port.saturating_add(ordinal.saturating_sub(1)),
        false => port,
    }
}

/// The ports that a worker shares with its replacement, beside those of the run.
#[must_use]
pub fn shared(ports: &PortSet, each: &[u16], ordinal: u16) -> PortSet {
    match ports {
        PortSet::All => PortSet::All,
        PortSet::Only(ports) => {
            let own = each.iter().filter_map(|first| first.checked_add(ordinal.saturating_sub(1)));
            PortSet::Only(ports.iter().copied().chain(own).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults() {
        let rule: MapRule = "9229=9300".parse().unwrap();
        let other: MapRule = "127.0.0.1:9229=9300".parse().unwrap();
        let cases = [
            (&[][..], 1024, None),
            (&[9229], 1, None),
            (&[9229], 1024, None),
            (&[65_535], 1, None),
            (&[65_535], 2, Some(EachFault::PastLastPort(65_535))),
            (&[64_512], 1024, None),
            (&[64_513], 1024, Some(EachFault::PastLastPort(64_513))),
            (&[9229, 9230], 1, None),
            (&[9229, 9230], 2, Some(EachFault::Overlap(9229, 9230))),
            (&[9230, 9229], 2, Some(EachFault::Overlap(9230, 9229))),
            (&[9229, 9229], 1, Some(EachFault::Overlap(9229, 9229))),
            (&[9229, 9231, 9300], 2, None),
        ];
        for (each, copies, expected) in cases {
            assert_eq!(fault(each, copies, &[other]), expected, "{each:?} {copies}");
        }
        assert_eq!(fault(&[9229], 1, &[rule]), Some(EachFault::Mapped(9229, rule)));
        assert_eq!(fault(&[9230], 1, &[rule]), None);
        for (port, ordinal, expected) in [(9229, 1, 9229), (9229, 3, 9231), (80, 3, 80)] {
            assert_eq!(own_port(&[9229], port, ordinal), expected);
        }
    }

    #[test]
    fn each_worker_has_a_port_of_its_own() {
        let texts = |ordinal| rules(&[9229, 80], ordinal).map(|it| it.to_string()).collect();
        for (ordinal, expected) in
            [(1, vec![]), (2, vec!["9229=9230", "80=81"]), (9, vec!["9229=9237", "80=88"])]
        {
            let found: Vec<String> = texts(ordinal);
            assert_eq!(found, expected, "{ordinal}");
        }
        assert_eq!(rules(&[65_535], 2).count(), 0);
    }

    #[test]
    fn the_ports_of_a_worker_are_shared_with_its_replacement() {
        let only = PortSet::Only([80].into());
        assert_eq!(shared(&PortSet::All, &[9229], 2), PortSet::All);
        assert_eq!(shared(&only, &[9229], 1), PortSet::Only([80, 9229].into()));
        assert_eq!(shared(&only, &[9229], 3), PortSet::Only([80, 9231].into()));
        assert_eq!(shared(&only, &[], 3), only);
    }
}
