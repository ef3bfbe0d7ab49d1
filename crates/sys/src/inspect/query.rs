//! Which sockets to list.

use sameport_policy::model::Protocol;

use crate::netlink::StateFilter;
use crate::netlink::sockets::SocketFilter;

/// Which sockets to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketQuery {
    /// Whether to list TCP sockets.
    pub tcp: bool,
    /// Whether to list UDP sockets.
    pub udp: bool,
    /// Only sockets on this local port.
    pub port: Option<u16>,
    /// Only sockets in these states.
    pub states: StateFilter,
    /// Whether to read [`Process::details`](sameport_policy::model::Process::details), in about 30 µs
    /// for each process.
    pub details: bool,
    /// Whether to find the paths of cgroups
    /// ([`Member::cgroup`](sameport_policy::model::Member::cgroup)), in one walk over all cgroups.
    pub cgroups: bool,
}

impl SocketQuery {
    /// Waiting TCP and UDP sockets on every port.
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

    /// Waiting sockets of one protocol on every port.
    #[must_use]
    pub fn only(protocol: Protocol) -> Self {
        let (tcp, udp) = (protocol == Protocol::Tcp, protocol == Protocol::Udp);
        Self { tcp, udp, ..Self::everything() }
    }

    /// Limits the query to one local port.
    #[must_use]
    pub fn on(self, port: u16) -> Self {
        Self { port: Some(port), ..self }
    }

    /// Lists sockets in these states.
    #[must_use]
    pub fn in_states(self, states: StateFilter) -> Self {
        Self { states, ..self }
    }

    /// Adds the paths of cgroups.
    #[must_use]
    pub fn with_cgroup_paths(self) -> Self {
        Self { cgroups: true, ..self }
    }

    /// Adds the details of processes and the paths of cgroups.
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
