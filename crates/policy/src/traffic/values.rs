//! The values of members: which value a member has, and the weights and ranks that follow.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::facts::TrafficMember;
use super::model::{MemberSelector, MemberValue, TrafficPolicy, TrafficRules};
use super::refusal::TrafficRefusal;
use crate::model::name::RunName;
use crate::spelling;

/// The values of all members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AssignedValues {
    /// Weight and rank of each member.
    pub(super) members: Vec<(u32, u8)>,
    /// The weight of a member that joins.
    pub(super) newcomer: u32,
}

/// A member: the sockets of one owner.
type Joined<'a> = Vec<&'a TrafficMember>;

/// The weights and ranks of the members.
pub(super) fn assign(members: &[Joined<'_>], rules: &TrafficRules) -> AssignedValues {
    let values = value_of_each(members, rules);
    if rules.policy.has_ranks() {
        let rank = |at: usize| match values[at] {
            Some(value) => u8::try_from(rules.values[value].value).unwrap_or(u8::MAX),
            None if rules.values.is_empty() => place(members, at),
            None => 0,
        };
        let members = (0..members.len()).map(|at| (1, rank(at))).collect();
        return AssignedValues { members, newcomer: 1 };
    }
    // A canary has the share of its own: the others keep their proportion beside it.
    let is_counted = |at: usize| {
        members[at].iter().all(|it| it.admitted && !(it.canary && rules.canary.is_some()))
    };
    let divisors: Vec<u128> = (0..rules.values.len())
        .map(|value| {
            let has = |at: &usize| values[*at] == Some(value) && is_counted(*at);
            (0..members.len()).filter(has).count().max(1) as u128
        })
        .collect();
    let mut parts: Vec<(u128, u128)> = values
        .iter()
        .map(|value| value.map_or((1, 1), |at| (rules.values[at].value.into(), divisors[at])))
        .collect();
    parts.push((1, 1));
    let mut weights = whole_numbers(&parts);
    let newcomer = weights.pop().unwrap_or(1);
    AssignedValues { members: weights.into_iter().map(|weight| (weight, 0)).collect(), newcomer }
}

/// Without any rank, the first worker of a run serves and the others wait in the order of their numbers;
/// members that are no workers wait in the order of their sockets.
fn place(members: &[Joined<'_>], at: usize) -> u8 {
    let place = match members[at][0].worker {
        Some(worker) => usize::from(worker) - usize::from(worker > 0),
        None => at,
    };
    u8::try_from(place).unwrap_or(u8::MAX)
}

/// The index of the value that each member has: that of the most specific selector, else the first.
fn value_of_each(members: &[Joined<'_>], rules: &TrafficRules) -> Vec<Option<usize>> {
    let selected: Vec<Selected<'_>> =
        rules.values.iter().map(|value| Selected::of(members, &value.selector)).collect();
    let value_of = |member: &Joined<'_>| {
        let fits = |(at, it): (usize, &Selected<'_>)| {
            it.contains(member).then(|| (it.precision(), Reverse(at)))
        };
        let most_specific = selected.iter().enumerate().filter_map(fits).max();
        most_specific.map(|(_, Reverse(at))| at)
    };
    members.iter().map(value_of).collect()
}

/// What a selector selects among these members.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Selected<'a> {
    Nobody,
    Group(Cow<'a, str>),
    Run(Cow<'a, str>),
    Worker(&'a RunName, u16),
    Pid(i32),
}

impl<'a> Selected<'a> {
    fn of(members: &[Joined<'_>], selector: &'a MemberSelector) -> Self {
        let named = |name: Cow<'a, str>| vec![Self::Run(name.clone()), Self::Group(name)];
        let meanings = match selector {
            MemberSelector::Pid(pid) => vec![Self::Pid(*pid)],
            MemberSelector::Name(name) => named(Cow::Borrowed(name.as_str())),
            MemberSelector::Worker(run, worker) => {
                let mut meanings = vec![Self::Worker(run, *worker)];
                meanings.extend(named(Cow::Owned(selector.to_string())));
                meanings
            }
        };
        let has_members = |it: &Self| members.iter().any(|member| it.contains(member));
        meanings.into_iter().find(has_members).unwrap_or(Self::Nobody)
    }

    fn contains(&self, member: &Joined<'_>) -> bool {
        let is = |name: Option<&RunName>, other: &str| name.is_some_and(|it| it.as_str() == other);
        member.iter().any(|it| match self {
            Self::Nobody => false,
            Self::Group(name) => is(it.group.as_ref(), name),
            Self::Run(name) => is(it.run.as_ref(), name),
            Self::Worker(run, worker) => it.run.as_ref() == Some(run) && it.worker == Some(*worker),
            Self::Pid(pid) => it.is_served_by(*pid),
        })
    }

    /// A pid is more specific than a worker, a worker more than a run, a run more than a group.
    fn precision(&self) -> u8 {
        match self {
            Self::Nobody => 0,
            Self::Group(_) => 1,
            Self::Run(_) => 2,
            Self::Worker(..) => 3,
            Self::Pid(_) => 4,
        }
    }
}

/// Whole numbers in the proportion of the fractions, as small as possible; their sum is below 2³², for
/// which they are rounded if need be. None that is not 0 becomes 0.
fn whole_numbers(parts: &[(u128, u128)]) -> Vec<u32> {
    let common = parts.iter().try_fold(1_u128, |all, (_, divisor)| {
        (all / gcd(all, *divisor)).checked_mul(*divisor).filter(|it| *it < 1 << 80)
    });
    // Without a common divisor of moderate size, a fraction of 2⁻⁸⁰ is lost. A value is below 2³², and
    // the sum of a thousand below 2¹²⁸.
    let unit = common.unwrap_or(1 << 80);
    let scaled: Vec<u128> = parts
        .iter()
        .map(|(value, divisor)| (value * unit / divisor).max(u128::from(*value > 0)))
        .collect();
    let divisor = scaled.iter().fold(0, |all, it| gcd(all, *it)).max(1);
    let sum: u128 = scaled.iter().map(|it| it / divisor).sum();
    let limit = u128::from(u32::MAX);
    scaled
        .iter()
        .map(|it| it / divisor)
        .map(|it| match it {
            0 => 0,
            _ if sum <= limit => it,
            // Division first where the product would not fit.
            _ => match it.checked_mul(limit - parts.len() as u128) {
                Some(product) => product / sum,
                None => it / (sum / (limit - parts.len() as u128) + 1),
            }
            .max(1),
        })
        .map(|it| u32::try_from(it).unwrap_or(u32::MAX))
        .collect()
}

fn gcd(one: u128, other: u128) -> u128 {
    if other == 0 { one } else { gcd(other, one % other) }
}

/// The members that a selector selects.
pub(super) fn selected<'m, 'a>(
    members: &'m [Joined<'a>],
    selector: &MemberSelector,
) -> Result<Vec<&'m Joined<'a>>, TrafficRefusal> {
    let selected = Selected::of(members, selector);
    if selected != Selected::Nobody {
        return Ok(members.iter().filter(|member| selected.contains(member)).collect());
    }
    let known = known_selectors(members);
    let names = known.iter().map(String::as_str);
    let nearest = spelling::nearest(&selector.to_string(), names).map(str::to_owned);
    Err(TrafficRefusal::UnknownSelector { selector: selector.clone(), nearest, known })
}

/// Whether each value of a user has its member.
pub(super) fn check(members: &[Joined<'_>], rules: &TrafficRules) -> Result<(), TrafficRefusal> {
    let policy = rules.policy;
    if rules.values.is_empty() && policy == TrafficPolicy::Weights {
        return Err(TrafficRefusal::ValuesNeeded(policy));
    }
    let mut seen = BTreeSet::new();
    for MemberValue { selector, value } in &rules.values {
        if policy.most() == 0 || policy.most() < *value {
            return Err(match policy.most() {
                0 => TrafficRefusal::NoValues(policy),
                1 => TrafficRefusal::NoWeights(policy),
                _ => TrafficRefusal::Rank(selector.clone(), *value),
            });
        }
        if !seen.insert(selector) {
            return Err(TrafficRefusal::Duplicate(selector.clone()));
        }
        selected(members, selector)?;
    }
    let used: BTreeSet<usize> = value_of_each(members, rules).into_iter().flatten().collect();
    match (0..rules.values.len()).find(|at| !used.contains(at)) {
        Some(at) => Err(TrafficRefusal::Shadowed(rules.values[at].selector.clone())),
        None => Ok(()),
    }
}

/// The values whose member is gone, or is not there yet.
pub(super) fn without_member<'a>(
    members: &[Joined<'_>],
    rules: &'a TrafficRules,
) -> impl Iterator<Item = &'a MemberValue> {
    let is_nobody =
        |value: &&MemberValue| Selected::of(members, &value.selector) == Selected::Nobody;
    rules.values.iter().filter(is_nobody)
}

/// The selectors that select a member: runs, groups, workers, then the pids of members that are of no
/// run.
fn known_selectors(members: &[Joined<'_>]) -> Vec<String> {
    let mut names = BTreeSet::new();
    let mut workers = BTreeSet::new();
    let mut pids = BTreeSet::new();
    for socket in members.iter().flatten() {
        names.extend(socket.run.iter().chain(&socket.group).map(ToString::to_string));
        match (&socket.run, socket.worker, socket.pid) {
            (Some(run), Some(worker), _) => {
                workers.insert((run.clone(), worker));
            }
            (_, _, Some(pid)) => {
                pids.insert(pid);
            }
            _ => {}
        }
    }
    let workers = workers.into_iter().map(|(run, worker)| format!("{run}.{worker}"));
    let pids = pids.into_iter().map(|pid| pid.to_string());
    names.into_iter().chain(workers).chain(pids).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_numbers_are_small_and_exact() {
        for (parts, expected) in [
            (&[(9, 4), (1, 2), (1, 1)][..], &[9, 2, 4][..]),
            (&[(0, 1), (0, 7)], &[0, 0]),
            (&[(4_294_967_295, 1), (4_294_967_295, 3)], &[3, 1]),
            (&[(4_294_967_295, 1), (1, 1)], &[4_294_967_292, 1]),
            (&[(100, 1), (50, 1), (0, 1)], &[2, 1, 0]),
        ] {
            assert_eq!(whole_numbers(parts), expected, "{parts:?}");
        }
    }

    proptest! {
        #[test]
        fn proportions_are_kept_and_nothing_becomes_0(
            parts in prop::collection::vec((any::<u32>(), 1..1_024_u32), 1..1_025),
        ) {
            let parts: Vec<(u128, u128)> =
                parts.into_iter().map(|(value, divisor)| (value.into(), divisor.into())).collect();
            let weights = whole_numbers(&parts);
            let sum: u64 = weights.iter().map(|it| u64::from(*it)).sum();
            prop_assert!(sum <= u64::from(u32::MAX), "{sum}");
            let exact = |(value, divisor): &(u128, u128)| *value as f64 / *divisor as f64;
            let all: f64 = parts.iter().map(exact).sum();
            for (part, weight) in parts.iter().zip(&weights) {
                prop_assert_eq!(part.0 == 0, *weight == 0);
                let error = exact(part) / all - f64::from(*weight) / sum as f64;
                prop_assert!(all == 0.0 || error.abs() < 1e-6, "{error}");
            }
        }
    }
}
