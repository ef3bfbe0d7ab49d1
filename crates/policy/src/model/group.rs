//! Members of one address: the kernel's reuseport group.

use sameport_addr::{Address, Protocol};

use super::process::Process;
use super::socket::{Socket, SocketOptions, SocketState};

/// The position of a member in the kernel's reuseport group. Only root can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupPosition {
    /// The index in the group, from 0.
    pub index: u32,
    /// The number of members.
    pub of: u32,
    /// Whether an attached program selects the member, instead of the kernel's hash.
    pub steered: bool,
}

/// A socket and the processes that have it open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The socket.
    pub socket: Socket,
    /// The processes that have the socket open, by pid. Empty if all of them are hidden from the
    /// observer, or if there is none.
    pub processes: Vec<Process>,
    /// The login name of the socket's owner, if the user database has one.
    pub user: Option<String>,
    /// Whether `SO_REUSEPORT` is set: read or inferred; `None` if unknown.
    pub shared: Option<bool>,
    /// The socket's options; `None` if they could not be read.
    pub options: Option<SocketOptions>,
    /// The position in the group; `None` if it could not be read.
    pub position: Option<GroupPosition>,
    /// The path of the cgroup (version 2) in which the socket was created, as in
    /// `/proc/PID/cgroup`, else the path of a holder's cgroup. `None` if unknown or not requested.
    pub cgroup: Option<String>,
}

impl Member {
    /// A socket whose processes and options are unknown.
    #[must_use]
    pub fn new(socket: Socket) -> Self {
        Self {
            socket,
            processes: vec![],
            user: None,
            shared: None,
            options: None,
            position: None,
            cgroup: None,
        }
    }
}

/// All members of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The common address.
    pub address: Address,
    /// At least one member, ordered by the first pid.
    pub members: Vec<Member>,
}

/// Groups members with equal addresses.
///
/// Equality is the kernel's (`inet_reuseport_add_sock` and `udp_reuseport_add_sock`): protocol,
/// family, IP, port, device and, for the IPv6 wildcard, `IPV6_V6ONLY`. `0.0.0.0:80` and a
/// dual-stack `*:80` compete for traffic, but are two groups.
///
/// The result is ordered by protocol, port and IP. Members are ordered by their first pid; members
/// without a known process come last. An unknown `SO_REUSEPORT` is inferred if the group proves it.
#[must_use]
pub fn group_by_address(members: Vec<Member>) -> Vec<Group> {
    // Sorting small keys is cheaper than sorting members: few sockets share a port.
    let mut keys: Vec<(Protocol, u16, usize)> = members
        .iter()
        .enumerate()
        .map(|(index, member)| {
            let address = &member.socket.address;
            (address.protocol, address.port(), index)
        })
        .collect();
    keys.sort_unstable();
    let mut members: Vec<Option<Member>> = members.into_iter().map(Some).collect();
    let mut groups: Vec<Group> = Vec::with_capacity(members.len());
    for on_port in keys.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let mut on_port: Vec<Member> =
            on_port.iter().filter_map(|(.., index)| members[*index].take()).collect();
        on_port.sort_by(|a, b| {
            let (address, other) = (&a.socket.address, &b.socket.address);
            address.cmp(other).then_with(|| first_pid(a).cmp(&first_pid(b)))
        });
        let first_on_port = groups.len();
        for member in on_port {
            match groups[first_on_port..].last_mut() {
                Some(group) if group.address == member.socket.address => group.members.push(member),
                _ => {
                    let address = member.socket.address.clone();
                    groups.push(Group { address, members: vec![member] });
                }
            }
        }
    }
    for group in &mut groups {
        infer_shared(group.address.protocol, &mut group.members);
    }
    groups
}

/// Two TCP sockets listen on one address only if both had `SO_REUSEPORT` at `listen(2)`:
/// `SO_REUSEADDR` does not allow a second listener. (Exceptions are `TCP_REPAIR`, and an option that
/// was cleared after `listen`: those sockets do share.) Bound sockets beside the listeners may have
/// `SO_REUSEADDR` only, so nothing follows for them.
///
/// Nothing follows for UDP either: `SO_REUSEADDR` on both sockets allows the second bind without
/// sharing, and the newest socket receives every datagram.
fn infer_shared(protocol: Protocol, members: &mut [Member]) {
    let waits = |member: &Member| member.socket.state == SocketState::Waiting;
    if protocol == Protocol::Tcp && members.iter().filter(|member| waits(member)).count() > 1 {
        for member in members.iter_mut().filter(|member| waits(member)) {
            member.shared.get_or_insert(true);
        }
    }
}

fn first_pid(member: &Member) -> (bool, Option<i32>, u64) {
    let pid = member.processes.iter().map(|process| process.pid).min();
    (pid.is_none(), pid, member.socket.inode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv6Addr, SocketAddr};

    fn member(protocol: Protocol, socket: SocketAddr, pids: &[i32]) -> Member {
        let inode = 1000 + u64::from(pids.first().copied().unwrap_or(0).unsigned_abs());
        let socket = Socket::new(Address::new(protocol, socket), inode, 1000);
        let processes = pids.iter().map(|pid| Process::new(*pid, "server")).collect();
        Member { processes, ..Member::new(socket) }
    }

    fn v4(ip: [u8; 4], port: u16) -> SocketAddr {
        (ip, port).into()
    }

    fn v6(ip: Ipv6Addr, port: u16) -> SocketAddr {
        (ip, port).into()
    }

    fn tcp(socket: SocketAddr, pids: &[i32]) -> Member {
        member(Protocol::Tcp, socket, pids)
    }

    fn udp(socket: SocketAddr, pids: &[i32]) -> Member {
        member(Protocol::Udp, socket, pids)
    }

    fn in_state(mut member: Member, state: SocketState) -> Member {
        member.socket.state = state;
        member
    }

    fn flagged(member: Member, shared: bool) -> Member {
        Member { shared: Some(shared), ..member }
    }

    #[test]
    fn equal_addresses_form_a_group() {
        let any4 = v4([0, 0, 0, 0], 80);
        let any6 = v6(Ipv6Addr::UNSPECIFIED, 80);
        let mut only6 = tcp(any6, &[4]);
        only6.socket.address.v6only = true;
        let mut on_lo = tcp(any4, &[5]);
        on_lo.socket.address.device = Some("lo".into());
        let mapped = v6("::ffff:0.0.0.0".parse().unwrap(), 80);
        let different = vec![
            tcp(any4, &[1]),
            udp(any4, &[2]),
            tcp(any6, &[3]),
            only6,
            on_lo,
            tcp(v4([127, 0, 0, 1], 80), &[6]),
            tcp(v4([0, 0, 0, 0], 81), &[7]),
            tcp(mapped, &[8]),
        ];
        let pairs: Vec<_> = different.iter().chain(&different).cloned().collect();

        let formed = group_by_address(pairs);

        assert_eq!(formed.len(), different.len());
        for group in &formed {
            assert_eq!(group.members.len(), 2, "{}", group.address);
            assert!(group.members.iter().all(|m| m.socket.address == group.address));
        }
    }

    #[test]
    fn groups_are_ordered_by_protocol_port_and_ip() {
        let formed = group_by_address(vec![
            udp(v4([127, 0, 0, 1], 53), &[1]),
            tcp(v6(Ipv6Addr::LOCALHOST, 80), &[2]),
            tcp(v4([127, 0, 0, 1], 8080), &[3]),
            tcp(v4([127, 0, 0, 2], 80), &[4]),
            tcp(v4([127, 0, 0, 1], 80), &[5]),
        ]);
        let order: Vec<_> =
            formed.iter().map(|g| format!("{} {}", g.address.protocol, g.address)).collect();
        let expected =
            ["tcp 127.0.0.1:80", "tcp 127.0.0.2:80", "tcp [::1]:80", "tcp 127.0.0.1:8080"];
        assert_eq!(order[..4], expected);
        assert_eq!(order[4..], ["udp 127.0.0.1:53"]);
    }

    #[test]
    fn members_are_ordered_by_first_pid() {
        let at = v4([127, 0, 0, 1], 80);
        let formed = group_by_address(vec![
            tcp(at, &[]),
            tcp(at, &[30, 2]),
            tcp(at, &[4, 9]),
            tcp(at, &[3]),
        ]);
        let pids: Vec<Vec<i32>> = formed[0]
            .members
            .iter()
            .map(|member| member.processes.iter().map(|process| process.pid).collect())
            .collect();
        assert_eq!(pids, [vec![30, 2], vec![3], vec![4, 9], vec![]]);
    }

    #[test]
    fn shared_is_inferred_from_a_second_listener() {
        let at = v4([127, 0, 0, 1], 80);
        let other = v4([127, 0, 0, 2], 80);
        let (no, yes) = (Some(false), Some(true));
        let cases = [
            ("a lone listener", vec![tcp(at, &[1])], vec![None]),
            ("two listeners", vec![tcp(at, &[1]), tcp(at, &[2])], vec![yes, yes]),
            (
                "one read, one unknown",
                vec![flagged(tcp(at, &[1]), true), tcp(at, &[2])],
                vec![yes, yes],
            ),
            (
                "a read option stays",
                vec![flagged(tcp(at, &[1]), false), tcp(at, &[2])],
                vec![no, yes],
            ),
            (
                "a listener, a bound socket and a connection",
                vec![
                    tcp(at, &[1]),
                    in_state(tcp(at, &[2]), SocketState::Bound),
                    in_state(tcp(at, &[3]), SocketState::Connected),
                ],
                vec![None; 3],
            ),
            (
                "two listeners and a bound socket",
                vec![tcp(at, &[1]), tcp(at, &[2]), in_state(tcp(at, &[3]), SocketState::Bound)],
                vec![yes, yes, None],
            ),
            ("one port, two addresses", vec![tcp(at, &[1]), tcp(other, &[2])], vec![None; 2]),
            ("two UDP sockets", vec![udp(at, &[1]), udp(at, &[2])], vec![None, None]),
            (
                "two UDP sockets, one read",
                vec![flagged(udp(at, &[1]), true), udp(at, &[2])],
                vec![yes, None],
            ),
            ("TCP and UDP", vec![tcp(at, &[1]), udp(at, &[2])], vec![None, None]),
        ];
        for (case, members, expected) in cases {
            let shared: Vec<_> = group_by_address(members)
                .iter()
                .flat_map(|g| &g.members)
                .map(|m| m.shared)
                .collect();
            assert_eq!(shared, expected, "{case}");
        }
    }

    #[test]
    fn no_members_form_no_group() {
        assert_eq!(group_by_address(Vec::new()), []);
    }
}
