//! Which sockets of a worker belong to the run: its server sockets, and not those of its queries and
//! sessions.
//!
//! A resolver binds a random UDP port for each query, an FTP server a port for each transfer. Held, such
//! a port would stay open after its worker has closed it, and each replacement would have to open it too.
//! An address therefore belongs to the run if a worker has it open when it becomes ready, or opens it
//! soon after and keeps it.

use std::time::Duration;

use super::state::Lifecycle;
use super::{InstanceId, instance::Phase};
use crate::model::Protocol;

/// A ready worker may open further server sockets for this long.
const SETTLING: Duration = Duration::from_secs(5);

/// A socket that a ready worker opens belongs to the run after this time.
const KEPT_OPEN: Duration = Duration::from_secs(3);

/// A datagram socket of a starting worker counts after this time: a query takes less.
const LONGER_THAN_A_QUERY: Duration = Duration::from_millis(150);

/// A ready worker's further addresses are reported by then: opened while it settles, kept open, and found
/// so by the next inspection.
pub(super) const LAST_ADDRESS: Duration = Duration::from_secs(10);

/// The limit of sockets that one worker may have held on addresses that are not the run's yet.
const MOST_OPENED: usize = 1024;

/// A socket that a worker opens: TCP at `listen`, UDP at `bind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedSocket {
    /// The protocol.
    pub protocol: Protocol,
    /// Whether the run must listen on this address.
    pub is_expected: bool,
    /// Whether the run holds another socket with this port.
    pub has_known_port: bool,
    /// For how long the worker has been ready.
    pub ready_for: Option<Duration>,
    /// The number of held sockets of this worker.
    pub opened: usize,
}

impl OpenedSocket {
    /// Whether the run holds the socket. The worker closes it otherwise as if it ran alone.
    #[must_use]
    pub fn is_held(self) -> bool {
        self.is_expected || self.opened < MOST_OPENED && !self.is_late()
    }

    /// How long the socket must be open before its worker counts as listening on the address.
    #[must_use]
    pub fn counts_after(self) -> Duration {
        match self.ready_for {
            _ if self.is_expected => Duration::ZERO,
            Some(_) => KEPT_OPEN,
            None if self.may_be_a_query() => LONGER_THAN_A_QUERY,
            None => Duration::ZERO,
        }
    }

    fn is_late(self) -> bool {
        self.ready_for.is_some_and(|time| time >= SETTLING || self.may_be_a_query())
    }

    /// A query of a resolver can be the first thing that a worker does, so that only the port
    /// distinguishes it from a server socket.
    fn may_be_a_query(self) -> bool {
        self.protocol == Protocol::Udp && !self.has_known_port
    }
}

impl Lifecycle {
    /// The addresses that workers must listen on.
    #[must_use]
    pub fn addresses(&self) -> std::collections::BTreeSet<String> {
        self.slots.values().flat_map(|slot| &slot.addresses).cloned().collect()
    }

    /// The instance has closed its sockets on this address before it was ready.
    pub fn not_listening(&mut self, id: InstanceId, address: &str) {
        if let Some(instance) = self.instances.get_mut(&id)
            && matches!(instance.phase, Phase::Starting { .. })
        {
            instance.listening.remove(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held() {
        use Protocol::{Tcp, Udp};
        let starting = OpenedSocket {
            protocol: Udp,
            is_expected: false,
            has_known_port: false,
            ready_for: None,
            opened: 0,
        };
        let soon = OpenedSocket { ready_for: Some(Duration::from_millis(1)), ..starting };
        let late = OpenedSocket { ready_for: Some(SETTLING), ..starting };
        let (at_once, soon_after) = (Duration::ZERO, LONGER_THAN_A_QUERY);
        let cases = [
            (starting, true, soon_after),
            (OpenedSocket { has_known_port: true, ..starting }, true, at_once),
            (OpenedSocket { protocol: Tcp, ..starting }, true, at_once),
            (OpenedSocket { opened: MOST_OPENED, ..starting }, false, soon_after),
            (OpenedSocket { opened: MOST_OPENED, is_expected: true, ..starting }, true, at_once),
            // A query.
            (soon, false, KEPT_OPEN),
            (OpenedSocket { has_known_port: true, ..soon }, true, KEPT_OPEN),
            (OpenedSocket { protocol: Tcp, ..soon }, true, KEPT_OPEN),
            (OpenedSocket { is_expected: true, ..soon }, true, at_once),
            (late, false, KEPT_OPEN),
            (OpenedSocket { protocol: Tcp, ..late }, false, KEPT_OPEN),
            (OpenedSocket { has_known_port: true, ..late }, false, KEPT_OPEN),
            (OpenedSocket { is_expected: true, ..late }, true, at_once),
        ];
        for (socket, is_held, counts_after) in cases {
            assert_eq!(
                (socket.is_held(), socket.counts_after()),
                (is_held, counts_after),
                "{socket:?}"
            );
        }
    }
}
