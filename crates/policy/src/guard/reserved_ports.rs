//! Ports that the kernel does not pick by itself: the text of `net.ipv4.ip_local_reserved_ports`.

use std::collections::BTreeSet;

/// The ports of a text such as `8080,9000-9010`. `None`: it is something else.
#[must_use]
pub fn parse(text: &str) -> Option<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        ports.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(ports)
}

/// The text for these ports, runs of them as the kernel writes them.
#[must_use]
pub fn format(ports: &BTreeSet<u16>) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
            _ => runs.push((*port, *port)),
        }
    }
    let one = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.iter().map(one).collect::<Vec<_>>().join(",")
}

/// What is to be reserved, and which of it is ours to take away later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationPlan {
    /// All that is to be reserved.
    pub reserved: BTreeSet<u16>,
    /// Those of them that nobody but us has reserved.
    pub ours: BTreeSet<u16>,
}

/// Of what is reserved now, and what we have added to it, to what must be reserved. What others have
/// reserved stays.
#[must_use]
pub fn plan(now: &BTreeSet<u16>, ours: &BTreeSet<u16>, wanted: &BTreeSet<u16>) -> ReservationPlan {
    let theirs = || now.difference(ours).copied();
    let ours = wanted.iter().copied().filter(|port| ours.contains(port) || !now.contains(port));
    ReservationPlan {
        reserved: theirs().chain(wanted.iter().copied()).collect(),
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
    fn text_and_ports_say_the_same() {
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
    fn what_others_reserved_stays() {
        // now, ours, wanted: reserved, ours
        let cases: [[&[u16]; 5]; 6] = [
            [&[], &[], &[80], &[80], &[80]],
            [&[80, 90], &[], &[80], &[80, 90], &[]],
            [&[80, 90], &[80], &[], &[90], &[]],
            [&[80, 90], &[80], &[80, 81], &[80, 81, 90], &[80, 81]],
            // Taken away by another: put there again.
            [&[90], &[80], &[80], &[80, 90], &[80]],
            [&[], &[], &[], &[], &[]],
        ];
        for [now, ours, wanted, reserved, then] in cases {
            let expected = ReservationPlan { reserved: set(reserved), ours: set(then) };
            assert_eq!(plan(&set(now), &set(ours), &set(wanted)), expected, "{now:?} {ours:?}");
        }
    }
}
