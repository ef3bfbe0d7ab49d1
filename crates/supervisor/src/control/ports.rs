//! Ports in the control protocol, and what requests have set for them.

use sameport_policy::traffic::TrafficRules;
use serde::{Deserialize, Serialize};

/// A port of one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficPort {
    /// Whether it is one of UDP, and not of TCP.
    #[serde(default)]
    pub udp: bool,
    /// The number.
    pub port: u16,
}

/// What requests have set for a port, for the next supervisor of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRules {
    /// The port.
    pub port: TrafficPort,
    /// Its rules; `None`: the kernel's hash.
    pub rules: Option<TrafficRules>,
}
