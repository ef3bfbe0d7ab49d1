//! Private groups: the owner of their sockets, so that the kernel refuses all other sockets.
//!
//! Linux lets two sockets share an address only if one user owns both, and makes no exception for root.
//! An unused user id is therefore a group of its own.

use crate::bind::verdict::{NotShared, ShareDecision};
use crate::membership::RunIdentity;
use crate::model::private_uid::{COUNT, FIRST};
use crate::model::{Address, Protocol, Socket, SocketState};

/// The user id that owns the sockets of this run's group, when this user runs it. Runs of one
/// group have the same id; others have another id, except with a probability of 1 in 251,658,240.
#[must_use]
pub fn owner(user: u32, run: &RunIdentity) -> u32 {
    let mut hash = Fnv1a::new();
    hash.add(&user.to_le_bytes());
    match &run.group {
        Some(group) => {
            hash.add(b"group");
            hash.add(group.as_str().as_bytes());
        }
        None => {
            hash.add(b"command");
            let directory = run.directory.as_deref().map(std::path::Path::as_os_str);
            hash.add(directory.unwrap_or_default().as_encoded_bytes());
            run.command.iter().for_each(|word| hash.add(word.as_encoded_bytes()));
        }
    }
    FIRST + hash.below(COUNT)
}

/// Whether the group owns the socket of a bind with this decision. It owns sockets that the program made
/// shareable by itself, and sockets whose port the kernel picks: the program may pass the number on.
#[must_use]
pub fn takes(verdict: ShareDecision) -> bool {
    match verdict {
        ShareDecision::Share { .. } | ShareDecision::SharedByItself => true,
        ShareDecision::LeaveAlone(reason) => reason == NotShared::AnyPort,
    }
}

/// Whether this is a listener of the group whose address covers `address`. Only then a new member gets
/// `SO_REUSEADDR`, which connections of the group have.
///
/// Connections belong to the process that accepted them, not to the group's owner; without the option the
/// kernel would refuse the newcomer because of them. Where no socket listens, the option would let any
/// socket with it in between `bind` and `listen`. On UDP the option lets every socket in.
#[must_use]
pub fn stands_beside(owner: u32, address: &Address, listener: &Socket) -> bool {
    let covers = listener.address == *address || address.is_within(&listener.address);
    address.protocol == Protocol::Tcp
        && listener.uid == owner
        && listener.state == SocketState::Waiting
        && covers
}

/// FNV-1a, 64 bits. Each piece begins with its length, so that no two lists of pieces are alike.
struct Fnv1a(u64);

impl Fnv1a {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        let length = (bytes.len() as u64).to_le_bytes();
        for byte in length.iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn below(&self, count: u32) -> u32 {
        let folded = self.0 ^ (self.0 >> 32);
        u32::try_from(folded % u64::from(count)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::is_private_uid;
    use std::collections::BTreeSet;
    use std::ffi::OsString;
    use std::path::PathBuf;

    fn run(group: Option<&str>, command: &[&str], directory: &str) -> RunIdentity {
        RunIdentity {
            group: group.map(|name| name.parse().unwrap()),
            command: command.iter().map(OsString::from).collect(),
            directory: Some(PathBuf::from(directory)),
        }
    }

    #[test]
    fn who_belongs_together_has_one_owner_and_nobody_else_has_it() {
        let runs = [
            run(None, &["api"], "/srv"),
            run(None, &["api"], "/home"),
            run(None, &["api", "80"], "/srv"),
            run(None, &["api80"], "/srv"),
            run(None, &["a", "pi"], "/srv"),
            run(None, &["ap", "i"], "/srv"),
            run(Some("api"), &["api"], "/srv"),
            run(Some("web"), &["api"], "/srv"),
        ];
        for one in &runs {
            for other in &runs {
                let alike = owner(0, one) == owner(0, other);
                assert_eq!(alike, one.belongs_with(other), "{one:?} {other:?}");
            }
        }
        let moved = run(Some("web"), &["other"], "/tmp");
        assert_eq!(owner(0, &moved), owner(0, &runs[7]));
        assert_ne!(owner(1000, &runs[7]), owner(0, &runs[7]));
    }

    #[test]
    fn owners_are_spread_and_no_users() {
        let groups = (0..10_000).map(|n| run(Some(&format!("g{n}")), &["api"], "/"));
        let owners: BTreeSet<u32> = groups.map(|run| owner(0, &run)).collect();
        assert!(owners.len() > 9_990, "{}", owners.len());
        assert!(owners.iter().all(|uid| is_private_uid(*uid) && i32::try_from(*uid).is_ok()));
        for user in [0, 1000, 60_000, 65_534, 524_288, 1_879_048_191, 0x7ffe_0000, u32::MAX] {
            assert!(!is_private_uid(user), "{user}");
        }
    }

    #[test]
    fn an_owner_is_for_good() {
        // Sockets outlive the program that gave them away (FDSTORE, reexec): the next version must
        // compute the same id.
        assert_eq!(owner(0, &run(Some("web"), &["api"], "/srv")), 1_891_435_551);
        assert_eq!(owner(1000, &run(None, &["api", "80"], "/srv")), 2_024_553_957);
    }

    #[test]
    fn a_newcomer_stands_beside_listeners_of_its_group_that_cover_its_address() {
        let at = |text: &str| Address::new(Protocol::Tcp, text.parse().unwrap());
        let listener = |text: &str, uid| Socket::new(at(text), 1, uid);
        let lo = at("127.0.0.1:80");
        for (listener, expected) in [
            (listener("127.0.0.1:80", FIRST), true),
            (listener("0.0.0.0:80", FIRST), true),
            (listener("[::]:80", FIRST), true),
            (listener("127.0.0.1:80", FIRST + 1), false),
            (listener("127.0.0.2:80", FIRST), false),
            (listener("127.0.0.1:81", FIRST), false),
            (Socket { state: SocketState::Bound, ..listener("127.0.0.1:80", FIRST) }, false),
        ] {
            assert_eq!(stands_beside(FIRST, &lo, &listener), expected, "{listener:?}");
        }
        assert!(!stands_beside(FIRST, &at("0.0.0.0:80"), &listener("127.0.0.1:80", FIRST)));
        let udp = Address { protocol: Protocol::Udp, ..lo };
        assert!(!stands_beside(FIRST, &udp, &Socket::new(udp.clone(), 1, FIRST)));
    }

    #[test]
    fn what_is_shared_is_the_groups() {
        let cases = [
            (ShareDecision::Share { clear_reuse_address: false }, true),
            (ShareDecision::SharedByItself, true),
            (ShareDecision::LeaveAlone(NotShared::AnyPort), true),
            (ShareDecision::LeaveAlone(NotShared::OtherPort), false),
            (ShareDecision::LeaveAlone(NotShared::OtherNetwork), false),
            (ShareDecision::LeaveAlone(NotShared::Multicast), false),
            (ShareDecision::LeaveAlone(NotShared::NotAPort), false),
        ];
        for (verdict, expected) in cases {
            assert_eq!(takes(verdict), expected, "{verdict:?}");
        }
    }
}
