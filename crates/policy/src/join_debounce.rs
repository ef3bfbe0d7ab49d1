//! When to say that an address is now shared: once a burst of joins is over, and only if something
//! changed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Address, Member};

/// How long after the last join of a burst (four copies starting at once) it is told.
pub const SETTLE: Duration = Duration::from_millis(100);

/// How many addresses are remembered; a worker that binds more is told of again at worst.
const MAX_ADDRESSES: usize = 4096;

/// The joins that were seen and what was told of them. Time is whatever clock the caller counts
/// from one fixed moment.
#[derive(Debug, Default)]
pub struct JoinDebounce {
    waiting: BTreeMap<Address, Duration>,
    reported: BTreeMap<Address, Vec<u64>>,
}

impl JoinDebounce {
    /// A socket joined this address at this time. A burst that never ends is told of all the same:
    /// only the first join of a burst sets the time.
    pub fn joined(&mut self, address: Address, now: Duration) {
        if self.waiting.len() < MAX_ADDRESSES {
            self.waiting.entry(address).or_insert(now + SETTLE);
        }
    }

    /// When [`due`](Self::due) has something to give next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.waiting.values().min().copied()
    }

    /// The addresses whose burst is over: look at who is on them now.
    pub fn due(&mut self, now: Duration) -> Vec<Address> {
        self.waiting.extract_if(.., |_, at| *at <= now).map(|(address, _)| address).collect()
    }

    /// Whether these members of the address are worth a line: more than one, or `shadowed` (one
    /// that takes traffic from another address, or loses it to one), and not the ones that were
    /// told of last time.
    pub fn should_report(&mut self, address: &Address, members: &[Member], shadowed: bool) -> bool {
        let mut inodes: Vec<_> = members.iter().map(|member| member.socket.inode).collect();
        inodes.sort_unstable();
        if self.reported.get(address) == Some(&inodes) {
            return false;
        }
        if self.reported.len() >= MAX_ADDRESSES {
            self.reported.clear();
        }
        let news = inodes.len() > 1 || shadowed;
        self.reported.insert(address.clone(), inodes);
        news
    }
}

/// A specific address, or IPv4 under a dual-stack one, takes its traffic whole: the group on the
/// wider address gets none of it. `(wider, narrower)` for every such pair among these members and
/// one address, each pair once.
#[must_use]
pub fn shadowed_pairs<'a>(
    address: &Address,
    members: &'a [Member],
) -> Vec<(&'a Member, &'a Member)> {
    // One member stands for all of its address: groups can be large, addresses on a port are few.
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
    fn a_burst_is_told_once() {
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
    fn only_a_change_is_news() {
        let mut joins = JoinDebounce::default();
        let address = tcp("0.0.0.0:80");
        let (a, b) = (member("0.0.0.0:80", 1), member("0.0.0.0:80", 2));
        assert!(!joins.should_report(&address, std::slice::from_ref(&a), false), "alone");
        assert!(joins.should_report(&address, &[a.clone(), b.clone()], false));
        assert!(!joins.should_report(&address, &[b.clone(), a.clone()], false), "the same again");
        assert!(!joins.should_report(&address, std::slice::from_ref(&a), false), "one left");
        assert!(joins.should_report(&address, &[a, b.clone()], false), "and came back");
        assert!(
            joins.should_report(&address, std::slice::from_ref(&b), true),
            "alone, but not the port"
        );
        assert!(!joins.should_report(&address, &[b], true), "nothing new");
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
