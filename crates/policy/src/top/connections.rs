//! Which member has each connection.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use sameport_addr::{Address, contains_ip};

use super::facts::{TopConnection, TopListener};
use super::member_key::{GroupKey, MemberKey, member_keys};

/// Open connections, and those among them that are new since the look before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ConnectionCount {
    pub(super) open: u32,
    pub(super) opened: u32,
}

/// The counts of groups and members.
#[derive(Debug, Default)]
pub(super) struct ConnectionCounts {
    groups: HashMap<GroupKey, ConnectionCount>,
    members: HashMap<(GroupKey, MemberKey), ConnectionCount>,
    /// Members whose connections cannot be told from those of another.
    ambiguous: HashSet<(GroupKey, MemberKey)>,
    /// Members with visible processes.
    visible: HashSet<(GroupKey, MemberKey)>,
}

impl ConnectionCounts {
    pub(super) fn of_group(&self, key: GroupKey) -> ConnectionCount {
        self.groups.get(&key).copied().unwrap_or_default()
    }

    /// `None` if the count is unknown.
    pub(super) fn of_member(&self, group: GroupKey, key: MemberKey) -> Option<ConnectionCount> {
        let at = (group, key);
        let is_known = self.visible.contains(&at) && !self.ambiguous.contains(&at);
        is_known.then(|| self.members.get(&at).copied().unwrap_or_default())
    }
}

/// The listeners of one address of a group, by process.
struct OnAddress<'a> {
    address: &'a Address,
    /// `None`: several members.
    of_process: HashMap<i32, Option<MemberKey>>,
}

/// Counts the accepted connections. `before`: the cookies of the look before; `None` without one.
pub(super) fn count(
    listeners: &[TopListener],
    connections: &[TopConnection],
    before: Option<&HashSet<u64>>,
) -> ConnectionCounts {
    let mut counts = ConnectionCounts::default();
    let mut by_port: HashMap<u16, Vec<OnAddress<'_>>> = HashMap::new();
    for (listener, (group, member)) in listeners.iter().zip(member_keys(listeners)) {
        let addresses = by_port.entry(listener.address.port()).or_default();
        let at = addresses.iter().position(|it| *it.address == listener.address);
        let at = at.unwrap_or_else(|| {
            addresses.push(OnAddress { address: &listener.address, of_process: HashMap::new() });
            addresses.len() - 1
        });
        for process in &listener.processes {
            counts.visible.insert((group, member));
            match addresses[at].of_process.get_mut(&process.pid) {
                None => {
                    addresses[at].of_process.insert(process.pid, Some(member));
                }
                Some(other) => {
                    let other = other.take();
                    counts.ambiguous.insert((group, member));
                    counts.ambiguous.extend(other.map(|other| (group, other)));
                }
            }
        }
    }
    for connection in connections.iter().filter(|connection| connection.accepted) {
        let addresses = by_port.get(&connection.local.port()).into_iter().flatten();
        let fitting = addresses.filter(|it| takes(it.address, connection.local.ip()));
        let Some(best) = fitting.max_by_key(|it| specificity(it.address)) else { continue };
        let group = GroupKey { protocol: best.address.protocol, port: connection.local.port() };
        let opened = u32::from(before.is_some_and(|before| !before.contains(&connection.cookie)));
        let add = |count: &mut ConnectionCount| {
            count.open += 1;
            count.opened += opened;
        };
        add(counts.groups.entry(group).or_default());
        let owner = connection.owner.and_then(|pid| best.of_process.get(&pid).copied().flatten());
        if let Some(member) = owner {
            add(counts.members.entry((group, member)).or_default());
        }
    }
    counts
}

/// Whether a listener on the address gets connections to this local IP address.
pub(crate) fn takes(address: &Address, local: IpAddr) -> bool {
    address.protocol == sameport_addr::Protocol::Tcp
        && contains_ip(address.socket.ip(), address.v6only, local)
}

/// The kernel prefers a listener with the IP of the packet, then one of its family (`inet_lookup_listener`).
pub(crate) fn specificity(address: &Address) -> u8 {
    match address.socket.ip() {
        ip if !ip.is_unspecified() => 2,
        ip => u8::from(ip.is_ipv4()),
    }
}
