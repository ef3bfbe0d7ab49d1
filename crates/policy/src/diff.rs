//! Who came to a port, who went, and who changed, between two looks.

use std::collections::HashMap;

use crate::model::Member;
use sameport_addr::Protocol;

/// What happened to a socket between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketChange<'a> {
    /// It was not there before.
    Came(&'a Member),
    /// It is not there any more; as it was seen last.
    Went(&'a Member),
    /// It is the same socket, and something that [`is_news`] knows is different.
    Changed {
        /// As it was.
        from: &'a Member,
        /// As it is.
        to: &'a Member,
    },
}

/// What happened between two looks, first those that went, then those that came or changed, each in
/// the order of its look. A socket is the same if it has the same cookie, or inode where no cookie is
/// told.
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

/// Whether the two differ in more than what differs all the time, such as the queue: in where the
/// socket is, what it does there, whose it is, who has it open, its options, how many may wait, or how
/// much was dropped.
///
/// What could not be seen once and was seen another time is no news: a process that cannot be looked
/// into for a moment would make some.
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
    fn sockets_come_go_and_stay() {
        let (one, two, three) = (member(1), member(2), member(3));
        let before = [one.clone(), two.clone()];
        let after = [three.clone(), two];
        assert_eq!(
            changes(&before, &after),
            [SocketChange::Went(&one), SocketChange::Came(&three)]
        );
        assert_eq!(changes(&before, &before), []);
        assert_eq!(changes(&[], &[]), []);
        // The address of one that ended, and another's socket now.
        let pair = [one, three];
        assert_eq!(changes(&pair[..1], &pair[1..]).len(), 2);
        // Where no cookie is told, the inode tells them apart.
        let mut later = member(0);
        later.socket.inode = 8;
        assert_eq!(changes(&[member(0)], &[later]).len(), 2);
        assert_eq!(changes(&[member(0)], &[member(0)]), []);
    }

    #[test]
    fn what_is_news() {
        type Change = fn(&mut Member);
        let cases: [(&str, Change, bool); 10] = [
            ("nothing", |_| {}, false),
            ("it listens no more", |it| it.socket.state = SocketState::Bound, true),
            ("more may wait", |it| it.socket.backlog = 9, true),
            ("more wait", |it| it.socket.queue = 9, false),
            ("another owner", |it| it.socket.uid = 9, true),
            ("another has it too", |it| it.processes.push(Process::new(2, "b")), true),
            ("another instead", |it| it.processes = vec![Process::new(2, "b")], true),
            ("nobody can be seen", |it| it.processes.clear(), false),
            ("it can be read now", |it| it.options = Some(SocketOptions::default()), false),
            ("drops are told now", |it| it.socket.drops = Some(1), false),
        ];
        for (what, change, expected) in cases {
            let (from, to) = (member(1), changed(change));
            assert_eq!(is_change(&from, &to), expected, "{what}");
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
