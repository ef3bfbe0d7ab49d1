//! The differences between two snapshots of sockets.

use std::collections::HashMap;

use crate::model::Member;
use sameport_addr::Protocol;

/// A difference between two snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketChange<'a> {
    /// The socket is new.
    Came(&'a Member),
    /// The socket is gone; its last state.
    Went(&'a Member),
    /// The same socket with a [change](is_change).
    Changed {
        /// The state before.
        from: &'a Member,
        /// The state after.
        to: &'a Member,
    },
}

/// The differences: first the sockets that are gone, then new and changed ones, in the order of their
/// snapshots. The same cookie, or without cookies the same inode, means the same socket.
#[must_use]
pub fn changes<'a>(before: &'a [Member], after: &'a [Member]) -> Vec<SocketChange<'a>> {
    let mut known: HashMap<_, &Member> = before.iter().map(|it| (identity(it), it)).collect();
    let now = after.iter().filter_map(|to| match known.remove(&identity(to)) {
        None => Some(SocketChange::Came(to)),
        Some(from) if is_change(from, to) => Some(SocketChange::Changed { from, to }),
        Some(_) => None,
    });
    let now: Vec<_> = now.collect();
    let went = before.iter().filter(|it| known.contains_key(&identity(it)));
    went.map(SocketChange::Went).chain(now).collect()
}

fn identity(member: &Member) -> (Protocol, u64, u64) {
    let socket = &member.socket;
    let inode = if socket.cookie == 0 { socket.inode } else { 0 };
    (socket.address.protocol, socket.cookie, inode)
}

/// Whether a socket changed its address, state, owner, processes, options, backlog or drops. The queue
/// changes all the time and does not count.
///
/// A fact that is unknown in one snapshot does not count either: a process can be unreadable for a
/// moment.
#[must_use]
pub fn is_change(from: &Member, to: &Member) -> bool {
    fn differ<T: PartialEq>(from: Option<T>, to: Option<T>) -> bool {
        from.is_some() && to.is_some() && from != to
    }
    let pids = |member: &Member| -> Option<Vec<i32>> {
        let pids: Vec<_> = member.processes.iter().map(|process| process.pid).collect();
        (!pids.is_empty()).then_some(pids)
    };
    from.socket.address != to.socket.address
        || from.socket.state != to.socket.state
        || from.socket.uid != to.socket.uid
        || from.socket.backlog != to.socket.backlog
        || differ(from.socket.drops, to.socket.drops)
        || differ(from.options, to.options)
        || differ(from.shared, to.shared)
        || differ(pids(from), pids(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Address, Process, Socket, SocketOptions, SocketState};

    fn member(cookie: u64) -> Member {
        let address = Address::new(Protocol::Tcp, ([127, 0, 0, 1], 80).into());
        let socket = Socket { cookie, ..Socket::new(address, 7, 1000) };
        Member { processes: vec![Process::new(1, "a")], ..Member::new(socket) }
    }

    fn changed(change: impl FnOnce(&mut Member)) -> Member {
        let mut member = member(1);
        change(&mut member);
        member
    }

    #[test]
    fn sockets_appear_disappear_and_stay() {
        let (one, two, three) = (member(1), member(2), member(3));
        let before = [one.clone(), two.clone()];
        let after = [three.clone(), two];
        assert_eq!(
            changes(&before, &after),
            [SocketChange::Went(&one), SocketChange::Came(&three)]
        );
        assert_eq!(changes(&before, &before), []);
        assert_eq!(changes(&[], &[]), []);
        // Two sockets that use one address in turn.
        let pair = [one, three];
        assert_eq!(changes(&pair[..1], &pair[1..]).len(), 2);
        // Without a cookie, the inode identifies the socket.
        let mut later = member(0);
        later.socket.inode = 8;
        assert_eq!(changes(&[member(0)], &[later]).len(), 2);
        assert_eq!(changes(&[member(0)], &[member(0)]), []);
    }

    #[test]
    fn changes_of_a_socket() {
        type Change = fn(&mut Member);
        let cases: [(&str, Change, bool); 10] = [
            ("nothing", |_| {}, false),
            ("no longer listening", |it| it.socket.state = SocketState::Bound, true),
            ("a larger backlog", |it| it.socket.backlog = 9, true),
            ("a longer queue", |it| it.socket.queue = 9, false),
            ("another owner", |it| it.socket.uid = 9, true),
            ("one more process", |it| it.processes.push(Process::new(2, "b")), true),
            ("another process", |it| it.processes = vec![Process::new(2, "b")], true),
            ("hidden processes", |it| it.processes.clear(), false),
            ("options known now", |it| it.options = Some(SocketOptions::default()), false),
            ("drops known now", |it| it.socket.drops = Some(1), false),
        ];
        for (case, change, expected) in cases {
            let (from, to) = (member(1), changed(change));
            assert_eq!(is_change(&from, &to), expected, "{case}");
            let expected = if expected {
                vec![SocketChange::Changed { from: &from, to: &to }]
            } else {
                vec![]
            };
            assert_eq!(changes(std::slice::from_ref(&from), std::slice::from_ref(&to)), expected);
        }
        let with = |drops| changed(|it| it.socket.drops = Some(drops));
        assert!(is_change(&with(1), &with(2)));
        let with = |shared| changed(|it| it.shared = Some(shared));
        assert!(is_change(&with(false), &with(true)));
        let open = SocketOptions { reuse_address: true, ..SocketOptions::default() };
        let with = |options| changed(|it| it.options = Some(options));
        assert!(is_change(&with(SocketOptions::default()), &with(open)));
    }
}
