//! Who shares with whom: members put into groups, and what their being together proves.

use std::collections::HashMap;

use crate::model::socket::{Address, Group, Member, Protocol, SocketState};

/// Puts members with equal addresses together.
///
/// Equal means what the kernel means when it forms a reuseport group: protocol, family, IP, port,
/// device and, for the IPv6 wildcard, `IPV6_V6ONLY` (`inet_reuseport_add_sock` and
/// `udp_reuseport_add_sock`). `0.0.0.0:80` and a dual-stack `*:80` compete, but are two groups.
///
/// Groups are ordered by protocol, port and IP; members by their first pid, those without a known
/// process last. A flag that could not be read is inferred where the group proves it.
#[must_use]
pub fn groups(members: Vec<Member>) -> Vec<Group> {
    let mut by_address: HashMap<Address, Vec<Member>> = HashMap::new();
    for member in members {
        by_address.entry(member.socket.address.clone()).or_default().push(member);
    }
    let mut groups: Vec<Group> = by_address
        .into_iter()
        .map(|(address, mut members)| {
            members.sort_by_key(first_pid);
            infer_shared(address.protocol, &mut members);
            Group { address, members }
        })
        .collect();
    groups.sort_by(|a, b| place(&a.address).cmp(&place(&b.address)));
    groups
}

/// Two TCP sockets listen on one address only if both had `SO_REUSEPORT` when they began to:
/// `SO_REUSEADDR` admits no second listener. (`TCP_REPAIR` could, and the flag can be cleared
/// later; both leave sockets that do share, which is what the word says.) With `SO_REUSEADDR` others
/// may be bound there that do not listen, and of those nothing follows.
///
/// Nothing follows for UDP, where `SO_REUSEADDR` on both admits the second socket as well, without
/// sharing: the newest takes every datagram. Nothing follows for a lone socket either.
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

fn place(address: &Address) -> (Protocol, u16, &Address) {
    (address.protocol, address.port(), address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::socket::{Process, Socket, v4, v6};
    use std::net::{Ipv6Addr, SocketAddr};

    fn member(protocol: Protocol, socket: SocketAddr, pids: &[i32]) -> Member {
        let inode = 1000 + u64::from(pids.first().copied().unwrap_or(0).unsigned_abs());
        let socket = Socket::new(Address::new(protocol, socket), inode, 1000);
        let processes = pids.iter().map(|pid| Process::new(*pid, "server")).collect();
        Member { processes, ..Member::new(socket) }
    }

    fn tcp(socket: SocketAddr, pids: &[i32]) -> Member {
        member(Protocol::Tcp, socket, pids)
    }

    fn udp(socket: SocketAddr, pids: &[i32]) -> Member {
        member(Protocol::Udp, socket, pids)
    }

    fn not_waiting(mut member: Member, state: SocketState) -> Member {
        member.socket.state = state;
        member
    }

    fn flagged(member: Member, shared: bool) -> Member {
        Member { shared: Some(shared), ..member }
    }

    #[test]
    fn only_equal_addresses_are_one_group() {
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
        let twice: Vec<_> = different.iter().chain(&different).cloned().collect();

        let formed = groups(twice);

        assert_eq!(formed.len(), different.len());
        for group in &formed {
            assert_eq!(group.members.len(), 2, "{}", group.address);
            assert!(group.members.iter().all(|m| m.socket.address == group.address));
        }
    }

    #[test]
    fn ordered_by_protocol_port_and_ip() {
        let formed = groups(vec![
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
    fn members_are_ordered_by_first_pid_and_the_unknown_come_last() {
        let at = v4([127, 0, 0, 1], 80);
        let formed = groups(vec![tcp(at, &[]), tcp(at, &[30, 2]), tcp(at, &[4, 9]), tcp(at, &[3])]);
        let pids: Vec<Vec<i32>> = formed[0]
            .members
            .iter()
            .map(|member| member.processes.iter().map(|process| process.pid).collect())
            .collect();
        assert_eq!(pids, [vec![30, 2], vec![3], vec![4, 9], vec![]]);
    }

    #[test]
    fn what_being_together_proves() {
        let at = v4([127, 0, 0, 1], 80);
        let elsewhere = v4([127, 0, 0, 2], 80);
        let (no, yes) = (Some(false), Some(true));
        let cases = [
            ("a lone listener", vec![tcp(at, &[1])], vec![None]),
            ("two listeners", vec![tcp(at, &[1]), tcp(at, &[2])], vec![yes, yes]),
            (
                "one read, one not",
                vec![flagged(tcp(at, &[1]), true), tcp(at, &[2])],
                vec![yes, yes],
            ),
            (
                "a flag that was read stays",
                vec![flagged(tcp(at, &[1]), false), tcp(at, &[2])],
                vec![no, yes],
            ),
            (
                "a listener, one that is only bound, and a connection",
                vec![
                    tcp(at, &[1]),
                    not_waiting(tcp(at, &[2]), SocketState::Bound),
                    not_waiting(tcp(at, &[3]), SocketState::Connected),
                ],
                vec![None; 3],
            ),
            (
                "two listeners, and one that is only bound",
                vec![tcp(at, &[1]), tcp(at, &[2]), not_waiting(tcp(at, &[3]), SocketState::Bound)],
                vec![yes, yes, None],
            ),
            ("one port, two addresses", vec![tcp(at, &[1]), tcp(elsewhere, &[2])], vec![None; 2]),
            ("two UDP sockets", vec![udp(at, &[1]), udp(at, &[2])], vec![None, None]),
            (
                "two UDP sockets, one read",
                vec![flagged(udp(at, &[1]), true), udp(at, &[2])],
                vec![yes, None],
            ),
            ("TCP and UDP", vec![tcp(at, &[1]), udp(at, &[2])], vec![None, None]),
        ];
        for (what, members, expected) in cases {
            let shared: Vec<_> =
                groups(members).iter().flat_map(|g| &g.members).map(|m| m.shared).collect();
            assert_eq!(shared, expected, "{what}");
        }
    }

    #[test]
    fn nobody_makes_no_group() {
        assert_eq!(groups(Vec::new()), []);
    }
}
