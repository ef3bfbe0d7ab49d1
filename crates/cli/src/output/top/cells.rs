//! The text of rows.

use sameport_policy::model::Protocol;
use sameport_policy::top::{TopFrame, TopGroup, TopMember};

use crate::output::text::{printable, sentence_list};

/// The addresses of a group in its title.
const ADDRESSES: usize = 3;

/// A column of the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Member,
    Pid,
    Program,
    Opened,
    Open,
    Queue,
    Drops,
    Restarts,
    Weight,
    State,
}

impl Column {
    /// In the order of the screen.
    pub(super) const ALL: [Self; 10] = [
        Self::Member,
        Self::Pid,
        Self::Program,
        Self::Opened,
        Self::Open,
        Self::Queue,
        Self::Drops,
        Self::Restarts,
        Self::Weight,
        Self::State,
    ];

    /// The columns that a narrow terminal does without, in this order.
    pub(super) const OPTIONAL: [Self; 5] =
        [Self::Restarts, Self::Program, Self::Weight, Self::Drops, Self::Pid];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Member => "MEMBER",
            Self::Pid => "PID",
            Self::Program => "PROGRAM",
            Self::Opened => "NEW/S",
            Self::Open => "OPEN",
            Self::Queue => "QUEUE",
            Self::Drops => "DROPS",
            Self::Restarts => "RESTARTS",
            Self::Weight => "WEIGHT",
            Self::State => "STATE",
        }
    }

    /// Whether the column has numbers, which end at its right edge.
    pub(super) fn is_number(self) -> bool {
        !matches!(self, Self::Member | Self::Program | Self::State)
    }
}

/// The cell of a member.
pub(super) fn cell(member: &TopMember, column: Column) -> String {
    let or_dash = |number: Option<u32>| number.map_or_else(|| "-".into(), |it| it.to_string());
    let pid = member.process.as_ref().map(|process| process.pid.to_string());
    match column {
        Column::Member => match &member.name {
            Some(name) => printable(name),
            None => pid.unwrap_or_else(|| "-".into()),
        },
        Column::Pid => match (pid, member.others) {
            (Some(pid), 0) => pid,
            (Some(pid), others) => format!("{pid}+{others}"),
            (None, _) => "-".into(),
        },
        Column::Program => member
            .process
            .as_ref()
            .map_or_else(|| "-".into(), |process| printable(&process.program)),
        Column::Opened => rate(member.opened),
        Column::Open => or_dash(member.open),
        Column::Queue => queue(member.queue, member.backlog),
        Column::Drops => or_dash(member.drops),
        Column::Restarts => or_dash(member.restarts),
        Column::Weight => or_dash(member.weight),
        Column::State => member.state.name().into(),
    }
}

/// The queue of UDP has no limit in datagrams.
fn queue(queue: u32, backlog: u32) -> String {
    match backlog {
        0 => queue.to_string(),
        backlog => format!("{queue}/{backlog}"),
    }
}

/// Events a second: with a decimal below 10.
pub(super) fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".into(),
        Some(rate) if rate > 0.0 && rate < 9.95 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

/// The name of a group: `8080/tcp`.
pub(super) fn group_name(group: &TopGroup) -> String {
    format!("{}/{}", group.key.port, group.key.protocol)
}

/// The title of a group.
pub(super) fn title(group: &TopGroup) -> String {
    let mut parts = vec![group_name(group)];
    if let Some(policy) = &group.policy {
        let tier = group.tier.map(|tier| format!(" by {tier}")).unwrap_or_default();
        parts.push(format!("{policy}{tier}"));
    }
    if let Some(why) = &group.not_in_force {
        parts.push(format!("not in force: {}", printable(why)));
    }
    parts.push(match group.members.len() {
        1 => "1 member".into(),
        members => format!("{members} members"),
    });
    if group.key.protocol == Protocol::Tcp {
        if group.opened.is_some() {
            parts.push(format!("{} new/s", rate(group.opened)));
        }
        parts.extend(group.open.map(|open| format!("{open} open")));
    }
    let sum = |of: fn(&TopMember) -> u32| group.members.iter().map(of).fold(0, u32::saturating_add);
    parts.push(format!("queue {}", queue(sum(|it| it.queue), sum(|it| it.backlog))));
    let drops = sum(|it| it.drops.unwrap_or(0));
    if drops > 0 {
        parts.push(format!("{drops} drops"));
    }
    let ips = group.addresses.iter().map(|address| {
        let device = address.device.as_ref().map(|name| format!("%{}", printable(name)));
        format!("{}{}", address.socket.ip(), device.unwrap_or_default())
    });
    parts.push(sentence_list(ips, ADDRESSES));
    parts.join("  ")
}

/// The row for members that are left out.
pub(super) fn more(count: usize, open: u32) -> String {
    format!("… and {count} more, {open} open (Enter shows them)")
}

/// The first line: what the whole frame says.
pub(super) fn summary(frame: &TopFrame, shown: &[&TopGroup]) -> String {
    let members: usize = shown.iter().map(|group| group.members.len()).sum();
    let count = |number: usize, word: &str| match number {
        1 => format!("1 {word}"),
        number => format!("{number} {word}s"),
    };
    let mut text =
        format!("sameport top  {}, {}", count(shown.len(), "port"), count(members, "member"));
    let left_out = frame.groups.len() - shown.len();
    if left_out > 0 {
        text.push_str(&format!(" ({left_out} more with one)"));
    }
    if frame.passive_rate.is_some() {
        text.push_str(&format!("  all ports: {} new/s", rate(frame.passive_rate)));
    }
    text
}
