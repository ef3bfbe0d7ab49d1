//! Settings and counters of the programs.

use std::net::SocketAddr;

use sameport_policy::bind::map::MapRule;
use sameport_policy::bind::verdict::PortSet;

/// Settings of the programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachSettings {
    /// The ports that are shared, after rules are applied.
    pub ports: PortSet,
    /// Rules that move binds to another address. The first rule for an address applies.
    pub rules: Vec<MapRule>,
    /// The source address of connections and datagrams of sockets that their program has not bound.
    /// Port 0: any port. A datagram sent without `connect` gets the IP address only.
    pub source: Option<SocketAddr>,
    /// Cookie of the only network namespace whose sockets are changed
    /// ([`own_cookie`](crate::netns::own_cookie)); `None` for every namespace.
    pub network: Option<u64>,
}

/// Counters of the source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceOutcome {
    /// Connections and datagrams that got the address.
    pub given: u64,
    /// Connections that failed because the address was not available.
    pub refused: u64,
}

impl SourceOutcome {
    /// From the counters of the map `given`.
    pub(super) fn read(counts: &[u64]) -> Self {
        let at = |index: usize| counts.get(index).copied().unwrap_or(0);
        Self { given: at(0), refused: at(1) }
    }
}
