//! The rows that a screen shows of a frame.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::frame::{TopFrame, TopGroup, TopMember, TopState};
use super::member_key::GroupKey;

/// The order of members within their group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TopOrder {
    /// By run, worker and pid.
    #[default]
    Name,
    /// Most new connections a second first.
    Opened,
    /// Most open connections first.
    Open,
    /// Longest queue first.
    Queue,
}

impl TopOrder {
    /// The next order.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Name => Self::Opened,
            Self::Opened => Self::Open,
            Self::Open => Self::Queue,
            Self::Queue => Self::Name,
        }
    }

    /// `name`, `new`, `open` or `queue`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Opened => "new",
            Self::Open => "open",
            Self::Queue => "queue",
        }
    }
}

/// What to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopView {
    /// The order of members.
    pub order: TopOrder,
    /// Whether to show groups of one member that belongs to no run, beside others.
    pub singles: bool,
    /// The number of members from which a group is folded to that number; `None`: never.
    pub fold: Option<usize>,
    /// Groups that are not folded.
    pub unfolded: BTreeSet<GroupKey>,
}

/// A row of the screen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TopRow<'a> {
    /// The title of a group.
    Group(&'a TopGroup),
    /// A member.
    Member(&'a TopGroup, &'a TopMember),
    /// Members that are left out: their number and their open connections.
    More(&'a TopGroup, usize, u32),
}

impl TopView {
    /// The groups that are shown: those of several members and those of runs, or all if there are none.
    pub fn groups<'a>(&self, frame: &'a TopFrame) -> Vec<&'a TopGroup> {
        let is_of_interest = |group: &&TopGroup| {
            group.members.len() > 1 || group.members.iter().any(|it| it.run.is_some())
        };
        let shown: Vec<_> = frame.groups.iter().filter(is_of_interest).collect();
        if self.singles || shown.is_empty() { frame.groups.iter().collect() } else { shown }
    }

    /// The rows, in order.
    #[must_use]
    pub fn rows<'a>(&self, frame: &'a TopFrame) -> Vec<TopRow<'a>> {
        self.groups(frame).into_iter().flat_map(|group| self.group_rows(group)).collect()
    }

    fn group_rows<'a>(&self, group: &'a TopGroup) -> Vec<TopRow<'a>> {
        let mut members: Vec<&TopMember> = group.members.iter().collect();
        let fold = self.fold.filter(|_| !self.unfolded.contains(&group.key));
        let mut left_out = Vec::new();
        if let Some(fold) = fold.filter(|fold| members.len() > *fold) {
            // Those that need attention, then the busiest.
            let mut kept: Vec<&TopMember> = members.clone();
            kept.sort_by_key(|it| {
                (it.state == TopState::Serving, Reverse(per_mille(it.opened)), Reverse(it.open))
            });
            left_out = kept.split_off(fold);
            let gone: BTreeSet<_> = left_out.iter().map(|it| it.key).collect();
            members.retain(|it| !gone.contains(&it.key));
        }
        match self.order {
            TopOrder::Name => {}
            TopOrder::Opened => members.sort_by_key(|it| Reverse(per_mille(it.opened))),
            TopOrder::Open => members.sort_by_key(|it| Reverse(it.open)),
            TopOrder::Queue => members.sort_by_key(|it| Reverse(it.queue)),
        }
        let mut rows = vec![TopRow::Group(group)];
        rows.extend(members.into_iter().map(|member| TopRow::Member(group, member)));
        if !left_out.is_empty() {
            let open = left_out.iter().filter_map(|it| it.open).fold(0, u32::saturating_add);
            rows.push(TopRow::More(group, left_out.len(), open));
        }
        rows
    }
}

/// A rate as a number with an order.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, and a rate is not negative"
)]
fn per_mille(rate: Option<f64>) -> Option<u64> {
    rate.map(|rate| (rate * 1000.0) as u64)
}
