//! `net.ipv4.ip_local_reserved_ports`: ports that the kernel does not assign.

use std::collections::BTreeSet;

/// Parses a list such as `8080,9000-9010`; `None` if it is malformed.
#[must_use]
pub fn parse(text: &str) -> Option<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        ports.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(ports)
}

/// Formats a list as the kernel does, with ranges.
#[must_use]
pub fn format(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
            _ => ranges.push((*port, *port)),
        }
    }
    let one = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(",")
}

/// The ports to reserve, and the part that a guard may remove later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationPlan {
    /// All reserved ports.
    pub reserved: BTreeSet<u16>,
    /// The reserved ports that guards added.
    pub ours: BTreeSet<u16>,
}

/// Plans the change from the reserved ports (`now`), the part that guards added (`ours`) and the
/// guarded ports (`wanted`). Ports reserved by others stay.
#[must_use]
pub fn plan(now: &BTreeSet<u16>, ours: &BTreeSet<u16>, wanted: &BTreeSet<u16>) -> ReservationPlan {
    let others = || now.difference(ours).copied();
    let ours = wanted.iter().copied().filter(|port| ours.contains(port) || !now.contains(port));
    ReservationPlan {
        reserved: others().chain(wanted.iter().copied()).collect(),
        ours: ours.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ports: &[u16]) -> BTreeSet<u16> {
        ports.iter().copied().collect()
    }

    #[test]
    fn lists_are_parsed_and_formatted() {
        let cases = [
            ("", &[][..]),
            ("80", &[80]),
            ("80,90-92,65534-65535", &[80, 90, 91, 92, 65534, 65535]),
        ];
        for (text, ports) in cases {
            assert_eq!(parse(&format!("{text}\n")), Some(set(ports)));
            assert_eq!(format(&set(ports)), text);
        }
        for wrong in ["x", "1-", "65536", "1-70000", "-"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ports_reserved_by_others_stay() {
        // now, ours, wanted: reserved, ours
        let cases: [[&[u16]; 5]; 6] = [
            [&[], &[], &[80], &[80], &[80]],
            [&[80, 90], &[], &[80], &[80, 90], &[]],
            [&[80, 90], &[80], &[], &[90], &[]],
            [&[80, 90], &[80], &[80, 81], &[80, 81, 90], &[80, 81]],
            // Removed by another program: added again.
            [&[90], &[80], &[80], &[80, 90], &[80]],
            [&[], &[], &[], &[], &[]],
        ];
        for [now, ours, wanted, reserved, then] in cases {
            let expected = ReservationPlan { reserved: set(reserved), ours: set(then) };
            assert_eq!(plan(&set(now), &set(ours), &set(wanted)), expected, "{now:?} {ours:?}");
        }
    }
}
