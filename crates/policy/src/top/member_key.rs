//! Which sockets are one member, and which members one group.

use std::collections::BTreeMap;

use sameport_addr::{Address, Protocol};

use super::facts::TopListener;

/// The sockets of one port and protocol, on every address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// A member of a group: the sockets of one owner that are the n-th on their addresses, so that an IPv4 and an
/// IPv6 socket of one process are one member, and two sockets on one address are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberKey {
    /// The first process; 0 if it is hidden or a supervisor.
    pub pid: i32,
    /// From 0.
    pub nth: usize,
}

/// The owner of each listener's member, in the order of the listeners.
pub(super) fn member_keys(listeners: &[TopListener]) -> Vec<(GroupKey, MemberKey)> {
    let mut sockets: BTreeMap<(&Address, i32), usize> = BTreeMap::new();
    let keys = listeners.iter().map(|listener| {
        let pid = first_pid(listener);
        let nth = sockets.entry((&listener.address, pid)).or_default();
        let key = MemberKey { pid, nth: *nth };
        *nth += 1;
        (group_key(listener), key)
    });
    keys.collect()
}

pub(super) fn group_key(listener: &TopListener) -> GroupKey {
    GroupKey { protocol: listener.address.protocol, port: listener.address.port() }
}

fn first_pid(listener: &TopListener) -> i32 {
    let of_worker = listener.worker.as_ref().map(|worker| worker.pid);
    of_worker.or_else(|| listener.processes.first().map(|process| process.pid)).unwrap_or(0)
}
