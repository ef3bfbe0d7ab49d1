//! Which of two existing sockets receives the traffic that both could take.

use super::existing::from_member;
use super::model::{BindRequest, ExistingSocket, TrafficOutcome};
use super::traffic::effects_by_family;
use crate::model::{Address, Member};

/// Traffic that only one of two sockets receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contest {
    /// The traffic: the intersection of both addresses.
    pub address: Address,
    /// Its receiver.
    pub winner: Winner,
}

/// The receiver of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Winner {
    /// The first of the two, whatever the order of the binds.
    First,
    /// The second of the two, whatever the order of the binds.
    Second,
    /// One of the two, by the order of the binds, which is not known.
    ByOrder,
}

/// The traffic that one of two waiting sockets keeps from the other. Empty if they share it, or if their
/// addresses do not overlap. An unknown `SO_REUSEPORT` counts as set: without it on both, the
/// kernel lets two sockets overlap in few cases only.
#[must_use]
pub fn contests(first: &Member, second: &Member) -> Vec<Contest> {
    let (one, two) = (with_option(first), with_option(second));
    let if_first_is_newer = effects_by_family(&request(&one), std::slice::from_ref(&two));
    let if_second_is_newer = effects_by_family(&request(&two), std::slice::from_ref(&one));
    let mut contests: Vec<Contest> = Vec::new();
    for (newer, older) in if_first_is_newer.into_iter().zip(if_second_is_newer) {
        let winner = match (newer.outcome, older.outcome) {
            (TrafficOutcome::Shared, _) | (_, TrafficOutcome::Shared) => continue,
            (TrafficOutcome::Taken, TrafficOutcome::Kept) => Winner::First,
            (TrafficOutcome::Kept, TrafficOutcome::Taken) => Winner::Second,
            _ => Winner::ByOrder,
        };
        match contests.last_mut() {
            // The IPv6 part of a dual-stack wildcard follows its IPv4 part.
            Some(last) if last.winner == winner => {
                last.address = Address { v6only: false, ..newer.address };
            }
            _ => contests.push(Contest { address: newer.address, winner }),
        }
    }
    contests
}

fn with_option(member: &Member) -> ExistingSocket {
    let socket = from_member(member);
    ExistingSocket { reuse_port: socket.reuse_port.or(Some(true)), ..socket }
}

fn request(socket: &ExistingSocket) -> BindRequest {
    BindRequest {
        reuse_port: socket.reuse_port == Some(true),
        reuse_address: socket.reuse_address == Some(true),
        ..BindRequest::plain(socket.address.clone(), socket.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, Socket};

    fn address(text: &str) -> Address {
        let (text, device) = match text.split_once('%') {
            Some((ip, device)) => (ip, Some(device.to_owned())),
            None => (text, None),
        };
        let (text, v6only) = match text.strip_prefix("only6 ") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let socket = format!("{text}:80").parse().unwrap();
        Address { device, v6only, ..Address::new(Protocol::Tcp, socket) }
    }

    fn member(text: &str, shared: bool) -> Member {
        let socket = Socket::new(address(text), 1, 1000);
        Member { shared: Some(shared), ..Member::new(socket) }
    }

    #[test]
    fn the_predictor_decides() {
        use Winner::{ByOrder, First, Second};
        // The first, the second, both with SO_REUSEPORT, and who wins what.
        type Case<'a> = (&'a str, &'a str, bool, &'a [(&'a str, Winner)]);
        let cases: [Case<'_>; 12] = [
            ("0.0.0.0", "0.0.0.0", true, &[]),
            ("0.0.0.0", "127.0.0.1", true, &[("127.0.0.1", Second)]),
            ("127.0.0.1", "[::]", true, &[("127.0.0.1", First)]),
            ("0.0.0.0", "127.0.0.2", true, &[("127.0.0.2", Second)]),
            ("127.0.0.1", "127.0.0.2", true, &[]),
            // The newest IPv4 socket comes first, also on a device.
            ("0.0.0.0", "0.0.0.0%lo", true, &[("0.0.0.0%lo", ByOrder)]),
            ("0.0.0.0", "0.0.0.0%lo", false, &[("0.0.0.0%lo", Second)]),
            // The oldest IPv6 socket comes first.
            ("only6 [::]", "only6 [::]%lo", true, &[("only6 [::]%lo", ByOrder)]),
            ("only6 [::]", "only6 [::]%lo", false, &[("only6 [::]%lo", Second)]),
            ("only6 [::]", "0.0.0.0", true, &[]),
            ("0.0.0.0", "[::]", true, &[("0.0.0.0", First)]),
            ("[::]", "[::]%lo", true, &[("[::]%lo", ByOrder)]),
        ];
        for (first, second, shared, expected) in cases {
            let found = contests(&member(first, shared), &member(second, shared));
            let expected: Vec<Contest> = expected
                .iter()
                .map(|(text, winner)| Contest { address: address(text), winner: *winner })
                .collect();
            assert_eq!(found, expected, "{first} {second} {shared}");
            let mirrored = contests(&member(second, shared), &member(first, shared));
            let winners = |list: &[Contest]| list.iter().map(|it| it.winner).collect::<Vec<_>>();
            let swap = |winner: &Winner| match winner {
                First => Second,
                Second => First,
                ByOrder => ByOrder,
            };
            let swapped: Vec<Winner> = winners(&found).iter().map(swap).collect();
            assert_eq!(winners(&mirrored), swapped, "{second} {first} {shared}");
        }
    }
}
