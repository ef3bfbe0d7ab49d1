//! Whether `run` makes a worker's socket shareable, for the ports that the run shares.

use std::collections::BTreeSet;
use std::fmt;

use sameport_addr::Protocol;

pub use crate::bind::share::{BindAttempt, NotShared, ShareDecision};

/// A port of one protocol or of both: `9101`, `9101/tcp`. `Display` writes that text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SharedPort {
    /// From 1 to 65535.
    pub port: u16,
    /// `None` for both.
    pub protocol: Option<Protocol>,
}

impl SharedPort {
    /// Whether a socket of this protocol on the port is meant. `None`: the protocol of the socket is unknown.
    #[must_use]
    pub fn includes(self, protocol: Option<Protocol>, port: u16) -> bool {
        let is_other = |own: Protocol| protocol.is_some_and(|asked| asked != own);
        self.port == port && !self.protocol.is_some_and(is_other)
    }
}

impl From<u16> for SharedPort {
    fn from(port: u16) -> Self {
        Self { port, protocol: None }
    }
}

impl fmt::Display for SharedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            None => write!(f, "{}", self.port),
            Some(protocol) => write!(f, "{}/{protocol}", self.port),
        }
    }
}

/// The ports that `run` shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortSet {
    /// Every fixed port.
    All,
    /// Only these (`--port`).
    Only(BTreeSet<SharedPort>),
}

impl PortSet {
    /// Whether this port is shared. `None`: the protocol of the socket is unknown.
    #[must_use]
    pub fn contains(&self, protocol: Option<Protocol>, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Only(ports) => ports.iter().any(|shared| shared.includes(protocol, port)),
        }
    }
}

/// Decides. Every fixed port is shared unless `ports` says otherwise.
#[must_use]
pub fn decide(attempt: &BindAttempt, ports: &PortSet) -> ShareDecision {
    let wanted =
        attempt.address.is_none_or(|address| ports.contains(attempt.protocol, address.port()));
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
        let only = PortSet::Only([8080.into()].into());
        let only_udp =
            PortSet::Only([SharedPort { port: 53, protocol: Some(Udp) }, 8080.into()].into());
        let leave = ShareDecision::LeaveAlone;
        let cases = [
            (tcp.clone(), &PortSet::All, share),
            (udp.clone(), &PortSet::All, share),
            (tcp.clone(), &only, share),
            (udp.clone(), &only, leave(OtherPort)),
            (udp.clone(), &only_udp, share),
            (attempt(Tcp, "[::]:53"), &only_udp, leave(OtherPort)),
            (tcp.clone(), &only_udp, share),
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
