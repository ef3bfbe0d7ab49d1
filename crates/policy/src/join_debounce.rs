//! Decides when to inspect an address that a socket has joined, and when to report its sharers: after a
//! burst of joins, if one of them is new.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::holder::{Holder, HolderClass, RunWorker};
use crate::model::name::RunName;
use crate::model::{Address, Member};

/// The delay between the first join of a burst, such as the start of four copies, and the inspection.
pub const SETTLE: Duration = Duration::from_millis(100);

/// The delays before further inspections of an address on which a worker has bound its socket and does not
/// listen yet. An interposer that sees no `listen` does not report it.
const AGAIN: [Duration; 6] = [
    Duration::from_millis(200),
    Duration::from_millis(700),
    Duration::from_secs(2),
    Duration::from_secs(7),
    Duration::from_secs(20),
    Duration::from_secs(70),
];

/// The limit of remembered addresses. Beyond it, an address can be reported again.
const MAX_ADDRESSES: usize = 4096;

/// A program that shares an address. A worker of a named run stays the same when it is replaced, and a
/// process counts once, however many sockets it has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharer {
    /// A worker of a named run.
    Worker(RunName, u16),
    /// A process of a named run whose worker is not known. The environment of a process that ends cannot be
    /// read.
    ProcessOfRun(i32),
    /// Any other process.
    Process(i32),
    /// A socket without a visible process, by its inode.
    Unseen(u64),
}

impl Sharer {
    /// The sharer with this socket.
    #[must_use]
    pub fn of(holder: &Holder, inode: u64) -> Self {
        match (&holder.class, &holder.process) {
            (HolderClass::Run { of: RunWorker { name, worker: Some(worker) }, .. }, _) => {
                Self::Worker(name.clone(), *worker)
            }
            (HolderClass::Run { .. }, Some(process)) => Self::ProcessOfRun(process.pid),
            (_, Some(process)) => Self::Process(process.pid),
            (_, None) => Self::Unseen(inode),
        }
    }

    /// Whether it may be a process that ends during the inspection, such as the worker that a restart
    /// replaces: its socket is still listed.
    fn may_be_ending(&self) -> bool {
        matches!(self, Self::ProcessOfRun(_) | Self::Unseen(_))
    }
}

/// The joins that wait for an inspection, and the reported sharers. Times count from any fixed moment.
#[derive(Debug, Default)]
pub struct JoinDebounce {
    waiting: BTreeMap<Address, Duration>,
    /// Addresses of sockets that may not listen yet, with the number of inspections.
    bound: BTreeMap<Address, usize>,
    reported: BTreeMap<Address, ReportedSharers>,
}

/// The last report about an address.
#[derive(Debug, Default)]
struct ReportedSharers {
    sharers: BTreeSet<Sharer>,
    /// New sharers that may be ending. Another inspection confirms them.
    unconfirmed: BTreeSet<Sharer>,
    shadowed: BTreeSet<(Address, Address)>,
}

impl JoinDebounce {
    /// Records a socket that takes traffic. The first join of a burst determines the time of the
    /// inspection, so that an endless burst is reported, too.
    pub fn joined(&mut self, address: Address, now: Duration) {
        if self.waiting.len() >= MAX_ADDRESSES {
            return;
        }
        let at = self.waiting.entry(address).or_insert(now + SETTLE);
        // The time of a further inspection is later.
        *at = (*at).min(now + SETTLE);
    }

    /// Records a bind after which the socket may not listen yet: [`Self::inspected`] schedules further
    /// inspections.
    pub fn bound(&mut self, address: Address, now: Duration) {
        if self.bound.len() < MAX_ADDRESSES {
            self.bound.insert(address.clone(), 0);
        }
        self.joined(address, now);
    }

    /// When to call [`due`](Self::due) next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.waiting.values().min().copied()
    }

    /// Removes and returns the addresses to inspect.
    pub fn due(&mut self, now: Duration) -> Vec<Address> {
        self.waiting.extract_if(.., |_, at| *at <= now).map(|(address, _)| address).collect()
    }

    /// Records an inspection. `is_settled`: a socket of the run takes traffic, and none waits for its `listen`.
    pub fn inspected(&mut self, address: &Address, is_settled: bool, now: Duration) {
        let Some(count) = self.bound.get_mut(address) else { return };
        match AGAIN.get(*count).filter(|_| !is_settled) {
            Some(delay) => {
                *count += 1;
                self.waiting.entry(address.clone()).or_insert(now + *delay);
            }
            None => drop(self.bound.remove(address)),
        }
    }

    /// Whether to report the sharers of an address: if there is more than one, and one of them was not
    /// in the last report. A sharer that has left is no news, and none when it is back. Sharers that may be
    /// ending are news if another inspection finds them, too.
    pub fn report_sharers(
        &mut self,
        address: &Address,
        sharers: &BTreeSet<Sharer>,
        now: Duration,
    ) -> bool {
        let reported = self.reported(address);
        let before = std::mem::take(&mut reported.unconfirmed);
        let new: BTreeSet<Sharer> = sharers.difference(&reported.sharers).cloned().collect();
        if sharers.len() < 2 || new.is_empty() {
            return false;
        }
        if new.iter().all(|sharer| sharer.may_be_ending() && !before.contains(sharer)) {
            reported.unconfirmed = new;
            // One more inspection for each join: otherwise sharers that come and go would cause an
            // endless sequence.
            if before.is_empty() {
                self.joined(address.clone(), now);
            }
            return false;
        }
        reported.sharers.clone_from(sharers);
        true
    }

    /// Whether to report these pairs of a wider and a narrower address, one of them the address: if one
    /// of them is new.
    pub fn report_shadowed(
        &mut self,
        address: &Address,
        pairs: BTreeSet<(Address, Address)>,
    ) -> bool {
        let reported = self.reported(address);
        let is_new = !pairs.is_subset(&reported.shadowed);
        reported.shadowed = pairs;
        is_new
    }

    fn reported(&mut self, address: &Address) -> &mut ReportedSharers {
        if self.reported.len() >= MAX_ADDRESSES && !self.reported.contains_key(address) {
            self.reported.clear();
        }
        self.reported.entry(address.clone()).or_default()
    }
}

/// Pairs of members on two addresses that overlap, one of them this address, one member of each. Groups
/// can be large, a port has few addresses.
#[must_use]
pub fn neighbours<'a>(address: &Address, members: &'a [Member]) -> Vec<[&'a Member; 2]> {
    let mut groups: BTreeMap<&Address, &Member> = BTreeMap::new();
    for member in members {
        groups.entry(&member.socket.address).or_insert(member);
    }
    let Some(own) = groups.remove(address) else { return Vec::new() };
    let others = groups.into_values();
    others
        .filter(|other| other.socket.address.overlaps(address))
        .map(|other| [own, other])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, Socket};

    fn tcp(text: &str) -> Address {
        Address::new(Protocol::Tcp, text.parse().unwrap())
    }

    fn member(address: &str, inode: u64) -> Member {
        Member::new(Socket::new(tcp(address), inode, 0))
    }

    fn worker(number: u16) -> Sharer {
        Sharer::Worker("web".parse().unwrap(), number)
    }

    #[test]
    fn a_burst_is_reported_once() {
        let mut joins = JoinDebounce::default();
        let at = Duration::from_millis;
        joins.joined(tcp("0.0.0.0:80"), at(0));
        joins.joined(tcp("0.0.0.0:80"), at(50));
        joins.joined(tcp("0.0.0.0:80"), at(99));
        assert_eq!(joins.next_deadline(), Some(at(100)));
        assert!(joins.due(at(99)).is_empty());
        assert_eq!(joins.due(at(100)), [tcp("0.0.0.0:80")]);
        assert_eq!(joins.next_deadline(), None);
    }

    #[test]
    fn only_a_new_sharer_is_reported() {
        use Sharer::{Process, Unseen};
        let mut joins = JoinDebounce::default();
        let address = tcp("0.0.0.0:80");
        let steps = [
            (vec![worker(1)], false, "alone"),
            (vec![worker(1), worker(2)], true, "two"),
            (vec![worker(1), worker(2)], false, "each step of a restart"),
            (vec![worker(2)], false, "one crashed"),
            (vec![worker(1), worker(2)], false, "and is back"),
            (vec![worker(1), worker(2), worker(3)], true, "scale 3"),
            (vec![worker(1), worker(2)], false, "scale 2"),
            (vec![worker(1), worker(2), Process(7)], true, "another program"),
            (vec![worker(1), worker(2), Process(8)], true, "its successor"),
            (vec![worker(1), Unseen(9)], false, "a hidden one"),
            (vec![worker(1), Unseen(9)], true, "which stays"),
            (vec![Process(7)], false, "alone again"),
        ];
        for (sharers, expected, step) in steps {
            let sharers = sharers.into_iter().collect();
            let is_news = joins.report_sharers(&address, &sharers, Duration::ZERO);
            assert_eq!(is_news, expected, "{step}");
        }
        let other = tcp("127.0.0.1:80");
        let others = [Process(7), Process(8)].into();
        assert!(joins.report_sharers(&other, &others, Duration::ZERO));
    }

    #[test]
    fn a_process_that_ends_is_no_news() {
        use Sharer::{ProcessOfRun, Unseen};
        let mut joins = JoinDebounce::default();
        let address = tcp("0.0.0.0:80");
        let steps = [
            (vec![worker(1), worker(2)], true, None, "two"),
            (vec![worker(1), worker(2), ProcessOfRun(7)], false, Some(SETTLE), "a restart"),
            (vec![worker(1), worker(2), Unseen(9)], false, None, "its next step"),
            (vec![worker(1), worker(2)], false, None, "both have ended"),
            (vec![worker(1), Unseen(9)], false, Some(SETTLE), "a hidden one"),
            (vec![worker(1), Unseen(9)], true, None, "and it stays"),
            (vec![worker(1), Unseen(9)], false, None, "no news"),
            (vec![worker(1), Unseen(9), worker(3), ProcessOfRun(8)], true, None, "another worker"),
        ];
        for (sharers, expected, again, step) in steps {
            let sharers = sharers.into_iter().collect();
            let is_news = joins.report_sharers(&address, &sharers, Duration::ZERO);
            assert_eq!(is_news, expected, "{step}");
            assert_eq!(joins.next_deadline(), again, "{step}");
            joins.due(SETTLE);
        }
    }

    #[test]
    fn a_shadow_is_reported_once() {
        let mut joins = JoinDebounce::default();
        let (wide, narrow) = (tcp("0.0.0.0:80"), tcp("127.0.0.1:80"));
        let pairs = BTreeSet::from([(wide.clone(), narrow.clone())]);
        assert!(!joins.report_shadowed(&narrow, BTreeSet::new()));
        assert!(joins.report_shadowed(&narrow, pairs.clone()));
        assert!(!joins.report_shadowed(&narrow, pairs.clone()));
        assert!(!joins.report_shadowed(&narrow, BTreeSet::new()));
        assert!(joins.report_shadowed(&narrow, pairs));
    }

    #[test]
    fn a_socket_that_does_not_listen_yet_is_inspected_again() {
        let mut joins = JoinDebounce::default();
        let address = tcp("0.0.0.0:80");
        joins.bound(address.clone(), Duration::ZERO);
        let mut times = Vec::new();
        while let Some(at) = joins.next_deadline() {
            assert_eq!(joins.due(at), std::slice::from_ref(&address));
            joins.inspected(&address, false, at);
            times.push(at.as_millis());
        }
        assert_eq!(times, [100, 300, 1_000, 3_000, 10_000, 30_000, 100_000]);

        joins.bound(address.clone(), Duration::ZERO);
        joins.due(SETTLE);
        joins.inspected(&address, false, SETTLE);
        joins.due(SETTLE * 3);
        joins.inspected(&address, true, SETTLE * 3);
        assert_eq!(joins.next_deadline(), None, "it listens");

        joins.joined(address.clone(), Duration::ZERO);
        joins.due(SETTLE);
        joins.inspected(&address, false, SETTLE);
        assert_eq!(joins.next_deadline(), None, "the interposer has seen it listen");

        joins.bound(address.clone(), Duration::ZERO);
        joins.due(SETTLE);
        joins.inspected(&address, false, SETTLE);
        joins.bound(address.clone(), SETTLE);
        assert_eq!(joins.next_deadline(), Some(SETTLE * 2), "another bind does not wait longer");
    }

    #[test]
    fn memory_is_bounded() {
        let mut joins = JoinDebounce::default();
        for port in 0..=u16::MAX {
            let address = Address::new(Protocol::Tcp, ([127, 0, 0, 1], port).into());
            joins.bound(address.clone(), Duration::ZERO);
            joins.report_sharers(&address, &[worker(1), worker(2)].into(), Duration::ZERO);
        }
        let JoinDebounce { waiting, bound, reported } = &joins;
        let lengths = [waiting.len(), bound.len(), reported.len()];
        assert!(lengths.iter().all(|length| *length <= MAX_ADDRESSES), "{lengths:?}");
    }

    #[test]
    fn overlapping_addresses_are_neighbours() {
        let both = member("[::]:80", 1);
        let any4 = member("0.0.0.0:80", 2);
        let loop4 = member("127.0.0.1:80", 3);
        let members = [both.clone(), any4.clone(), loop4.clone()];
        let pairs = neighbours(&tcp("0.0.0.0:80"), &members);
        assert_eq!(pairs, [[&any4, &loop4], [&any4, &both]]);
        assert!(neighbours(&tcp("127.0.0.2:80"), &members).is_empty());
        assert!(neighbours(&tcp("0.0.0.0:80"), &[any4.clone(), any4]).is_empty());
    }
}
