//! Whether `run` makes a worker's socket shareable, for the ports that the run shares.

use std::collections::BTreeSet;

pub use crate::bind::share::{BindAttempt, NotShared, ShareDecision};

/// The ports that `run` shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortSet {
    /// Every fixed port.
    All,
    /// Only these (`--port`).
    Only(BTreeSet<u16>),
}

impl PortSet {
    /// Whether this port is shared.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Only(ports) => ports.contains(&port),
        }
    }
}

/// Decides. Every fixed port is shared unless `ports` says otherwise.
#[must_use]
pub fn decide(attempt: &BindAttempt, ports: &PortSet) -> ShareDecision {
    let wanted = attempt.address.is_none_or(|address| ports.contains(address.port()));
    crate::bind::share::decide(attempt, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sameport_addr::Protocol;

    fn attempt(protocol: Protocol, address: &str) -> BindAttempt {
        BindAttempt {
            protocol: Some(protocol),
            address: Some(address.parse().unwrap()),
            reuse_port: false,
            reuse_address: false,
            same_network: true,
        }
    }

    #[test]
    fn facts_to_verdict() {
        use NotShared::*;
        use Protocol::{Tcp, Udp};
        let share = ShareDecision::Share { clear_reuse_address: false };
        let tcp = attempt(Tcp, "0.0.0.0:8080");
        let udp = attempt(Udp, "[::]:53");
        let only = PortSet::Only([8080].into());
        let leave = ShareDecision::LeaveAlone;
        let cases = [
            (tcp.clone(), &PortSet::All, share),
            (udp.clone(), &PortSet::All, share),
            (tcp.clone(), &only, share),
            (udp.clone(), &only, leave(OtherPort)),
            (attempt(Tcp, "127.0.0.1:0"), &PortSet::All, leave(AnyPort)),
            (attempt(Tcp, "127.0.0.1:0"), &only, leave(AnyPort)),
            (BindAttempt { reuse_address: true, ..tcp.clone() }, &PortSet::All, share),
            (
                BindAttempt { reuse_address: true, ..udp.clone() },
                &PortSet::All,
                ShareDecision::Share { clear_reuse_address: true },
            ),
            (
                BindAttempt { reuse_port: true, ..tcp.clone() },
                &PortSet::All,
                ShareDecision::SharedByItself,
            ),
            (
                BindAttempt { reuse_port: true, reuse_address: true, ..udp.clone() },
                &PortSet::All,
                ShareDecision::SharedByItself,
            ),
            (
                BindAttempt { same_network: false, ..tcp.clone() },
                &PortSet::All,
                leave(OtherNetwork),
            ),
            (BindAttempt { protocol: None, ..tcp.clone() }, &PortSet::All, leave(NotAPort)),
            (BindAttempt { address: None, ..tcp }, &PortSet::All, leave(NotAPort)),
            (attempt(Udp, "224.0.0.251:5353"), &PortSet::All, leave(Multicast)),
            (attempt(Udp, "[ff02::fb]:5353"), &PortSet::All, leave(Multicast)),
            (attempt(Udp, "[::ffff:224.0.0.251]:5353"), &PortSet::All, leave(Multicast)),
            (attempt(Udp, "255.255.255.255:68"), &PortSet::All, leave(Multicast)),
            // A multicast service on the wildcard keeps its SO_REUSEADDR.
            (
                BindAttempt { reuse_address: true, ..attempt(Udp, "[::]:5353") },
                &PortSet::All,
                share,
            ),
        ];
        for (attempt, ports, expected) in cases {
            assert_eq!(decide(&attempt, ports), expected, "{attempt:?} {ports:?}");
        }
    }
}
