//! The ports that have a policy of their own.

use sameport_policy::model::{Address, Protocol};

use crate::control::protocol::TrafficPort;

/// A port of one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortKey {
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

impl PortKey {
    /// The port of an address.
    pub(crate) fn of(address: &Address) -> Self {
        Self { protocol: address.protocol, port: address.port() }
    }
}

impl From<TrafficPort> for PortKey {
    fn from(TrafficPort { udp, port }: TrafficPort) -> Self {
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        Self { protocol, port }
    }
}

impl From<PortKey> for TrafficPort {
    fn from(PortKey { protocol, port }: PortKey) -> Self {
        Self { udp: protocol == Protocol::Udp, port }
    }
}
