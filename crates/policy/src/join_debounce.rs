//! Decides when to report that an address is shared: after a burst of joins, if the members changed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Address, Member};

/// The delay between the first join of a burst, such as the start of four copies, and the report.
pub const SETTLE: Duration = Duration::from_millis(100);

/// The limit of remembered addresses. Beyond it, an address can be reported again.
const MAX_ADDRESSES: usize = 4096;

/// The joins that wait for a report, and the reported members. Times count from any fixed moment.
#[derive(Debug, Default)]
pub struct JoinDebounce {
    waiting: BTreeMap<Address, Duration>,
    reported: BTreeMap<Address, Vec<u64>>,
}

impl JoinDebounce {
    /// Records a join. The first join of a burst determines the time of the report, so that an endless
    /// burst is reported, too.
    pub fn joined(&mut self, address: Address, now: Duration) {
        if self.waiting.len() < MAX_ADDRESSES {
            self.waiting.entry(address).or_insert(now + SETTLE);
        }
    }

    /// When to call [`due`](Self::due) next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.waiting.values().min().copied()
    }

    /// Removes and returns the addresses whose burst is over.
    pub fn due(&mut self, now: Duration) -> Vec<Address> {
        self.waiting.extract_if(.., |_, at| *at <= now).map(|(address, _)| address).collect()
    }

    /// Whether to report the members of an address: if they changed since the last report, and there is
    /// more than one, or one takes traffic from another address or loses it (`shadowed`).
    pub fn should_report(&mut self, address: &Address, members: &[Member], shadowed: bool) -> bool {
        let mut inodes: Vec<_> = members.iter().map(|member| member.socket.inode).collect();
        inodes.sort_unstable();
        if self.reported.get(address) == Some(&inodes) {
            return false;
        }
        if self.reported.len() >= MAX_ADDRESSES {
            self.reported.clear();
        }
        let is_shared = inodes.len() > 1 || shadowed;
        self.reported.insert(address.clone(), inodes);
        is_shared
    }
}

/// Pairs `(wider, narrower)` of members, one of them on this address. The kernel prefers the
/// narrower address, such as 127.0.0.1 to 0.0.0.0, for all of its traffic.
#[must_use]
pub fn shadowed_pairs<'a>(
    address: &Address,
    members: &'a [Member],
) -> Vec<(&'a Member, &'a Member)> {
    // One member of each address suffices: groups can be large, a port has few addresses.
    let mut groups: BTreeMap<&Address, &Member> = BTreeMap::new();
    for member in members {
        groups.entry(&member.socket.address).or_insert(member);
    }
    let mut pairs = Vec::new();
    for (wide, wider) in &groups {
        for (narrow, narrower) in &groups {
            if (*wide == address || *narrow == address) && narrow.is_within(wide) {
                pairs.push((*wider, *narrower));
            }
        }
    }
    pairs
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
    fn only_changes_are_reported() {
        let mut joins = JoinDebounce::default();
        let address = tcp("0.0.0.0:80");
        let (a, b) = (member("0.0.0.0:80", 1), member("0.0.0.0:80", 2));
        assert!(!joins.should_report(&address, std::slice::from_ref(&a), false), "alone");
        assert!(joins.should_report(&address, &[a.clone(), b.clone()], false));
        assert!(!joins.should_report(&address, &[b.clone(), a.clone()], false), "the same members");
        assert!(
            !joins.should_report(&address, std::slice::from_ref(&a), false),
            "one member is gone"
        );
        assert!(joins.should_report(&address, &[a, b.clone()], false), "and is back");
        assert!(
            joins.should_report(&address, std::slice::from_ref(&b), true),
            "alone on the address, not on the port"
        );
        assert!(!joins.should_report(&address, &[b], true), "no change");
    }

    #[test]
    fn memory_is_bounded() {
        let mut joins = JoinDebounce::default();
        for port in 0..=u16::MAX {
            let address = Address::new(Protocol::Tcp, ([127, 0, 0, 1], port).into());
            joins.joined(address.clone(), Duration::ZERO);
            joins.should_report(&address, &[], false);
        }
        assert!(joins.waiting.len() <= MAX_ADDRESSES && joins.reported.len() <= MAX_ADDRESSES);
    }

    #[test]
    fn the_narrower_address_takes_its_traffic() {
        let both = member("[::]:80", 1);
        let any4 = member("0.0.0.0:80", 2);
        let loop4 = member("127.0.0.1:80", 3);
        let members = [both.clone(), any4.clone(), loop4.clone()];
        let pairs = shadowed_pairs(&tcp("0.0.0.0:80"), &members);
        assert_eq!(pairs, [(&any4, &loop4), (&both, &any4)]);
        assert!(shadowed_pairs(&tcp("127.0.0.2:80"), &members).is_empty());
        assert!(shadowed_pairs(&tcp("0.0.0.0:80"), &[any4.clone(), any4]).is_empty());
    }
}
