//! Why the rules of a user cannot hold, and what could make them hold.

use std::fmt;

use super::model::{MemberSelector, SteeringTier, TrafficPolicy};
use crate::model::Protocol;

/// What eBPF needs. A test compares the kernel with the one that the loader requires.
pub const EXTENDED_NEEDS: &str =
    "eBPF needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and Linux 5.15";

/// The number of known members that a message names.
const MAX_KNOWN: usize = 12;

/// Why rules cannot hold. `Display` is one line; [`Self::next_step`] says what could.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrafficRefusal {
    /// The tier cannot follow the policy, with the reason.
    Tier(TrafficPolicy, SteeringTier, &'static str),
    /// The tier cannot tell the members apart, with the reason.
    UnknownMembers(TrafficPolicy, String),
    /// The policy has no meaning for the protocol, with the reason.
    Protocol(TrafficPolicy, Protocol, &'static str),
    /// Connection ids cannot be followed, with the reason.
    ConnectionIds(&'static str),
    /// No member is selected.
    UnknownSelector {
        /// The selector.
        selector: MemberSelector,
        /// The selector that it probably misspells.
        nearest: Option<String>,
        /// The selectors that select a member.
        known: Vec<String>,
    },
    /// The selector has two values.
    Duplicate(MemberSelector),
    /// Every member that the selector names has a value of its own.
    Shadowed(MemberSelector),
    /// No member has a weight above 0.
    AllZero,
    /// The policy takes no values.
    NoValues(TrafficPolicy),
    /// The policy takes only 0 and 1.
    NoWeights(TrafficPolicy),
    /// The policy needs a value for at least one member.
    ValuesNeeded(TrafficPolicy),
    /// The rank is above 255.
    Rank(MemberSelector, u32),
    /// The group has fewer than two members.
    OneMember(usize),
    /// The group has this many members, more than [`super::plan::MAX_MEMBERS`].
    TooMany(usize),
}

impl TrafficRefusal {
    /// Whether this machine, or this user on it, cannot do it, and not the command line is wrong: exit
    /// code 3 instead of 2 or 1.
    #[must_use]
    pub fn is_of_the_machine(&self) -> bool {
        matches!(self, Self::Tier(..) | Self::UnknownMembers(..))
    }

    /// What could make the rules hold.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        Some(match self {
            Self::Tier(policy, ..) => {
                format!("{policy} needs eBPF; {EXTENDED_NEEDS}")
            }
            Self::UnknownMembers(policy, _) => {
                format!("{policy} here needs eBPF; {EXTENDED_NEEDS}")
            }
            Self::ConnectionIds(..) => "random --connection-id, for a port of UDP".to_owned(),
            Self::Protocol(..) => "random, weights and sticky choose per flow".to_owned(),
            Self::UnknownSelector { known, .. } if !known.is_empty() => {
                let shown = known.iter().take(MAX_KNOWN).map(String::as_str);
                let more = known.len().saturating_sub(MAX_KNOWN);
                let more = (more > 0).then(|| format!("and {more} more"));
                let names: Vec<&str> = shown.chain(more.as_deref()).collect();
                format!("the members are {}", names.join(", "))
            }
            Self::AllZero => "give at least one member a weight above 0".to_owned(),
            Self::NoValues(_) | Self::NoWeights(_) => {
                "random, weights, sticky, least-connections and two-choices take weights".to_owned()
            }
            Self::ValuesNeeded(_) => "for example: weights web=9 web-v2=1".to_owned(),
            _ => return None,
        })
    }
}

impl fmt::Display for TrafficRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tier(policy, tier, why) => write!(f, "{tier} cannot do {policy}: {why}"),
            Self::UnknownMembers(policy, why) => {
                write!(f, "classic BPF cannot do {policy} here: {why}")
            }
            Self::Protocol(policy, protocol, why) => {
                let name = protocol.name().to_ascii_uppercase();
                write!(f, "{policy} has no meaning for {name}: {why}")
            }
            Self::ConnectionIds(why) => f.write_str(why),
            Self::UnknownSelector { selector, nearest, .. } => {
                write!(f, "no member is \"{selector}\"")?;
                nearest.as_ref().map_or(Ok(()), |name| write!(f, ": the nearest is {name}"))
            }
            Self::Duplicate(selector) => write!(f, "\"{selector}\" has two values"),
            Self::Shadowed(selector) => {
                write!(f, "every member of \"{selector}\" has a value of its own")
            }
            Self::AllZero => f.write_str("no member would get a connection: every weight is 0"),
            Self::NoValues(policy) => write!(f, "{policy} takes no values of members"),
            Self::NoWeights(policy) => {
                write!(f, "{policy} takes no weights: a value is 0, for none, or 1")
            }
            Self::ValuesNeeded(policy) => write!(f, "{policy} needs the value of a member"),
            Self::Rank(selector, rank) => {
                write!(f, "\"{selector}={rank}\": a rank is a number from 0 to 255")
            }
            Self::OneMember(0) => f.write_str("the group has no member"),
            Self::OneMember(_) => f.write_str("the group has one member: there is no choice"),
            Self::TooMany(members) => {
                write!(f, "the group has {members} members, and a policy chooses among 1,024")
            }
        }
    }
}

impl std::error::Error for TrafficRefusal {}
