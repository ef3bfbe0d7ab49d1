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

/// What keeps rules from holding. The exit code of every verb follows from it, whoever refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCause {
    /// The tier, the protocol or the kernel cannot do the policy: exit code 3.
    Means,
    /// The rules contradict themselves, whatever the members are: exit code 2.
    Rules,
    /// The rules do not fit the members that the group has now: exit code 1.
    Members,
}

impl TrafficRefusal {
    /// What has to be different for the rules to hold.
    #[must_use]
    pub fn cause(&self) -> RefusalCause {
        match self {
            Self::Tier(..) | Self::UnknownMembers(..) | Self::Protocol(..) => RefusalCause::Means,
            Self::UnknownSelector { .. }
            | Self::AllZero
            | Self::OneMember(_)
            | Self::TooMany(_) => RefusalCause::Members,
            Self::ConnectionIds(_)
            | Self::Duplicate(_)
            | Self::Shadowed(_)
            | Self::NoValues(_)
            | Self::NoWeights(_)
            | Self::ValuesNeeded(_)
            | Self::Rank(..) => RefusalCause::Rules,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_follows_from_what_has_to_be_different() {
        use TrafficRefusal as R;
        let web = || -> MemberSelector { "web".parse().unwrap() };
        let unknown =
            R::UnknownSelector { selector: web(), nearest: None, known: vec!["10".to_owned()] };
        for (refusal, cause) in [
            (
                R::Tier(TrafficPolicy::RoundRobin, SteeringTier::Classic, "it keeps nothing"),
                RefusalCause::Means,
            ),
            (R::UnknownMembers(TrafficPolicy::Random, "a stranger".into()), RefusalCause::Means),
            (R::Protocol(TrafficPolicy::TwoChoices, Protocol::Udp, "why"), RefusalCause::Means),
            (R::ConnectionIds("TCP has none"), RefusalCause::Rules),
            (R::Duplicate(web()), RefusalCause::Rules),
            (R::Shadowed(web()), RefusalCause::Rules),
            (R::NoValues(TrafficPolicy::Hash), RefusalCause::Rules),
            (R::NoWeights(TrafficPolicy::Cpu), RefusalCause::Rules),
            (R::ValuesNeeded(TrafficPolicy::Weights), RefusalCause::Rules),
            (R::Rank(web(), 256), RefusalCause::Rules),
            (unknown, RefusalCause::Members),
            (R::AllZero, RefusalCause::Members),
            (R::OneMember(1), RefusalCause::Members),
            (R::TooMany(1025), RefusalCause::Members),
        ] {
            assert_eq!(refusal.cause(), cause, "{refusal}");
        }
    }
}
