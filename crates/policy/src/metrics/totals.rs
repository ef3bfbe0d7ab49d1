//! Counters of keys with members that come and go. The kernel counts for each socket, and forgets the count
//! with the socket; a counter of an address must not shrink when a member leaves.

use std::collections::BTreeMap;

/// The count of each key since it was seen first.
#[derive(Debug, Clone)]
pub struct CounterTotals<Id, Key> {
    members: BTreeMap<Id, u64>,
    totals: BTreeMap<Key, u64>,
}

impl<Id, Key> Default for CounterTotals<Id, Key> {
    fn default() -> Self {
        Self { members: BTreeMap::new(), totals: BTreeMap::new() }
    }
}

impl<Id: Ord, Key: Ord + Clone> CounterTotals<Id, Key> {
    /// Takes the counts of a look: each member with its key. Keys without a member begin again at 0. The count of
    /// a member that shrank began again at 0, too.
    pub fn look(&mut self, counts: impl IntoIterator<Item = (Id, Key, u64)>) {
        let (mut members, mut totals) = (BTreeMap::new(), BTreeMap::new());
        for (id, key, count) in counts {
            let before = self.members.get(&id).copied().unwrap_or_default();
            let grown = if count >= before { count - before } else { count };
            let earlier = self.totals.get(&key).copied().unwrap_or_default();
            *totals.entry(key).or_insert(earlier) += grown;
            members.insert(id, count);
        }
        (self.members, self.totals) = (members, totals);
    }

    /// The count of a key; `None` without a member.
    #[must_use]
    pub fn of(&self, key: &Key) -> Option<u64> {
        self.totals.get(key).copied()
    }

    /// All keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, u64)> {
        self.totals.iter().map(|(key, total)| (key, *total))
    }
}
