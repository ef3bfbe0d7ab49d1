//! Which sockets to list.

use sameport_policy::model::Protocol;

use crate::netlink::StateFilter;
use crate::netlink::sockets::SocketFilter;

/// Which sockets to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketQuery {
    /// TCP sockets.
    pub tcp: bool,
    /// UDP sockets.
    pub udp: bool,
    /// Only those on this port.
    pub port: Option<u16>,
    /// Only those in these states.
    pub states: StateFilter,
    /// Whether to look at what else is known of who has them open ([`Process::details`](sameport_policy::model::Process::details)): some 30 µs a
    /// process.
    pub details: bool,
    /// Whether to look for the paths of their cgroups ([`Member::cgroup`]): once over all cgroups.
    pub cgroups: bool,
}

impl SocketQuery {
    /// Whoever waits, by either protocol, on every port.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            tcp: true,
            udp: true,
            port: None,
            states: StateFilter::Waiting,
            details: false,
            cgroups: false,
        }
    }

    /// Whoever waits, by one protocol, on every port.
    #[must_use]
    pub fn only(protocol: Protocol) -> Self {
        let (tcp, udp) = (protocol == Protocol::Tcp, protocol == Protocol::Udp);
        Self { tcp, udp, ..Self::everything() }
    }

    /// The same, on one port.
    #[must_use]
    pub fn on(self, port: u16) -> Self {
        Self { port: Some(port), ..self }
    }

    /// The same, of sockets in these states.
    #[must_use]
    pub fn in_states(self, states: StateFilter) -> Self {
        Self { states, ..self }
    }

    /// The same, with the paths of cgroups.
    #[must_use]
    pub fn with_cgroup_paths(self) -> Self {
        Self { cgroups: true, ..self }
    }

    /// The same, with all that is known of the processes, and the paths of cgroups.
    #[must_use]
    pub fn with_details(self) -> Self {
        Self { details: true, cgroups: true, ..self }
    }

    /// The part of the query that the kernel answers.
    pub(super) fn filter(&self) -> SocketFilter {
        let Self { tcp, udp, port, states, .. } = *self;
        SocketFilter { tcp, udp, port, states }
    }
}
