//! What later looks need of earlier ones.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::connections;
use super::facts::TopLook;
use super::frame::{ChosenBefore, Earlier, TopFrame, frame, rate_of};
use super::member_key::{GroupKey, MemberKey};
use super::stall::StallHistory;

/// The looks so far.
#[derive(Debug, Default)]
pub struct TopHistory {
    last: Option<LastLook>,
    stalls: StallHistory,
}

#[derive(Debug)]
struct LastLook {
    at: Duration,
    /// Cookies of the accepted connections.
    accepted: HashSet<u64>,
    passive_opens: Option<u64>,
    chosen: BTreeMap<(GroupKey, MemberKey), ChosenBefore>,
}

impl TopHistory {
    /// Adds a look and returns its frame. The first frame has no rates.
    pub fn add(&mut self, look: &TopLook) -> TopFrame {
        let last = self.last.as_ref();
        let since = last.map(|last| look.at.saturating_sub(last.at));
        let before = last.map(|last| &last.accepted);
        let counts = connections::count(&look.listeners, &look.connections, before);
        let hung = self.stalls.add(look);
        let none = BTreeMap::new();
        let chosen = last.map_or(&none, |last| &last.chosen);
        let passive = last.and_then(|last| last.passive_opens).zip(look.passive_opens);
        let passive = passive.and_then(|(before, now)| rate_of(now.saturating_sub(before), since));
        let earlier = Earlier { since, counts: &counts, hung: &hung, chosen };
        let frame = frame(look, &earlier, passive);
        self.last = Some(LastLook {
            at: look.at,
            accepted: look
                .connections
                .iter()
                .filter(|it| it.accepted)
                .map(|it| it.cookie)
                .collect(),
            passive_opens: look.passive_opens,
            chosen: chosen_counts(&frame),
        });
        frame
    }
}

fn chosen_counts(frame: &TopFrame) -> BTreeMap<(GroupKey, MemberKey), ChosenBefore> {
    let of_groups = frame.groups.iter().flat_map(|group| {
        let members = group.members.iter();
        members.filter_map(|it| Some(((group.key, it.key), it.chosen?)))
    });
    of_groups.collect()
}
