//! The values of members: which value a member has, and the weights and ranks that follow.

use std::collections::BTreeSet;

use super::facts::TrafficMember;
use super::model::{MemberSelector, MemberValue, TrafficPolicy, TrafficRules};
use super::refusal::TrafficRefusal;
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
    let values: Vec<Option<usize>> =
        (0..members.len()).map(|at| value_of(members, at, rules)).collect();
    if rules.policy.has_ranks() {
        let rank = |at: usize| match values[at] {
            Some(value) => u8::try_from(rules.values[value].value).unwrap_or(u8::MAX),
            None if rules.values.is_empty() => place(members, at),
            None => 0,
        };
        let members = (0..members.len()).map(|at| (1, rank(at))).collect();
        return AssignedValues { members, newcomer: 1 };
    }
    let is_admitted = |at: usize| members[at].iter().all(|socket| socket.admitted);
    let divisors: Vec<u128> = (0..rules.values.len())
        .map(|value| {
            let has = |at: &usize| values[*at] == Some(value) && is_admitted(*at);
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

/// The index of the value that a member has: that of the most specific selector.
fn value_of(members: &[Joined<'_>], at: usize, rules: &TrafficRules) -> Option<usize> {
    let fits = rules.values.iter().enumerate().filter_map(|(index, value)| {
        Some((precision(members, &members[at], &value.selector)?, std::cmp::Reverse(index)))
    });
    fits.max().map(|(_, index)| index.0)
}

/// How specific the selector is for this member: a pid more than a worker, a worker more than a run, a
/// run more than a group. `None` if it selects others.
fn precision(members: &[Joined<'_>], member: &Joined<'_>, selector: &MemberSelector) -> Option<u8> {
    let is = |fits: &dyn Fn(&TrafficMember) -> bool| member.iter().any(|socket| fits(socket));
    let any = |fits: &dyn Fn(&TrafficMember) -> bool| members.iter().flatten().any(|it| fits(it));
    let named = |name: &str| {
        let of_run = |it: &TrafficMember| it.run.as_ref().is_some_and(|run| run.as_str() == name);
        let of_group =
            |it: &TrafficMember| it.group.as_ref().is_some_and(|group| group.as_str() == name);
        match any(&of_run) {
            true => is(&of_run).then_some(2),
            false => is(&of_group).then_some(1),
        }
    };
    match selector {
        MemberSelector::Pid(pid) => {
            is(&|it| it.pid == Some(*pid) || it.others.contains(pid)).then_some(4)
        }
        MemberSelector::Worker(run, worker) => {
            let of_worker =
                |it: &TrafficMember| it.run.as_ref() == Some(run) && it.worker == Some(*worker);
            match any(&of_worker) {
                true => is(&of_worker).then_some(3),
                false => named(&selector.to_string()),
            }
        }
        MemberSelector::Name(name) => named(name.as_str()),
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
                None => it / (sum / (limit - parts.len() as u128)).max(1),
            }
            .max(1),
        })
        .map(|it| u32::try_from(it).unwrap_or(u32::MAX))
        .collect()
}

fn gcd(one: u128, other: u128) -> u128 {
    if other == 0 { one } else { gcd(other, one % other) }
}

/// Whether each value of a user has its member.
pub(super) fn check(members: &[Joined<'_>], rules: &TrafficRules) -> Result<(), TrafficRefusal> {
    let policy = rules.policy;
    if rules.values.is_empty() && policy == TrafficPolicy::Weights {
        return Err(TrafficRefusal::ValuesNeeded(policy));
    }
    if policy == TrafficPolicy::Hash && !rules.values.is_empty() {
        return Err(TrafficRefusal::NoValues(policy));
    }
    let mut seen = BTreeSet::new();
    for MemberValue { selector, value } in &rules.values {
        if !seen.insert(selector) {
            return Err(TrafficRefusal::Duplicate(selector.clone()));
        }
        if policy.has_ranks() && *value > u8::MAX.into() {
            return Err(TrafficRefusal::Rank(selector.clone(), *value));
        }
        if !members.iter().any(|member| precision(members, member, selector).is_some()) {
            let known = known_selectors(members);
            let names = known.iter().map(String::as_str);
            let nearest = spelling::nearest(&selector.to_string(), names).map(str::to_owned);
            return Err(TrafficRefusal::UnknownSelector {
                selector: selector.clone(),
                nearest,
                known,
            });
        }
    }
    let used: BTreeSet<usize> =
        (0..members.len()).filter_map(|at| value_of(members, at, rules)).collect();
    match (0..rules.values.len()).find(|at| !used.contains(at)) {
        Some(at) => Err(TrafficRefusal::Shadowed(rules.values[at].selector.clone())),
        None => Ok(()),
    }
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
