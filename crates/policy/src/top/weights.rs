//! The values that make the weight, or the rank, of one member larger or smaller by one.

use super::frame::{TopGroup, TopMember};
use crate::model::name::RunName;
use crate::traffic::model::{MemberSelector, MemberValue};

/// How a user names the member: its worker, else its process. `None` for a member that is neither.
#[must_use]
pub fn selector(member: &TopMember) -> Option<MemberSelector> {
    let run = member.run.as_ref().and_then(|run| run.parse::<RunName>().ok());
    match (run, member.worker, &member.process) {
        (Some(run), Some(worker), _) => Some(MemberSelector::Worker(run, worker)),
        (_, _, Some(process)) => Some(MemberSelector::Pid(process.pid)),
        _ => None,
    }
}

/// The values for `steer`. A weight of a run is divided among its workers, so that its workers get values of their
/// own: the weights that they have now. `None` if the member cannot be named, or has the least or the most.
#[must_use]
pub fn stepped_values(group: &TopGroup, member: &TopMember, up: bool) -> Option<Vec<MemberValue>> {
    let step = |value: u32| if up { value.checked_add(1) } else { value.checked_sub(1) };
    let own = selector(member)?;
    let rules = group.rules.as_ref();
    let values = rules.map_or(&[][..], |rules| rules.values.as_slice());
    let exact = values.iter().find(|it| it.selector == own).map(|it| it.value);
    if let Some(value) = exact {
        return Some(vec![MemberValue { selector: own, value: step(value)? }]);
    }
    let has_ranks = rules.is_some_and(|rules| rules.policy.has_ranks());
    let default = if has_ranks { 0 } else { 1 };
    // Without any rank the workers have those of their numbers, which end with the first value.
    if values.is_empty() != has_ranks {
        let value = step(member.weight.filter(|_| has_ranks).unwrap_or(default))?;
        return Some(vec![MemberValue { selector: own, value }]);
    }
    let pinned = group.members.iter().filter_map(|it| {
        let weight = it.weight?;
        let value = if it.key == member.key { step(weight)? } else { weight };
        Some(MemberValue { selector: selector(it)?, value })
    });
    let pinned: Vec<MemberValue> = pinned.collect();
    pinned.iter().any(|it| it.selector == own).then_some(pinned)
}
