//! What a user wants of a port, and the refusals that do not depend on who applies the change: the supervisor
//! or the kernel's state.

use sameport_policy::traffic::{
    MemberSelector, MemberValue, SteeringTier, TrafficFacts, TrafficPolicy, TrafficRefusal,
    TrafficRules, plan,
};
use sameport_sys::ProcessIdentity;

use super::error::Error;
use super::port::PortMembers;

/// What a user wants of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SteerChange {
    /// The default policy of this machine.
    On,
    /// The hash of the kernel, and nothing of sameport.
    Off,
    /// This policy, or the one that holds, with these values. Connection ids of QUIC are followed if it says
    /// so, or if the policy that holds does.
    Rules { policy: Option<TrafficPolicy>, values: Vec<MemberValue>, connection_ids: bool },
}

/// The rules that hold, with other values of some members. Where the hash holds, weights do. An earlier value
/// of a pid that is gone, or that a value by the present pid replaces, is forgotten.
pub(super) fn with_values(
    mut rules: TrafficRules,
    values: &[MemberValue],
    facts: &TrafficFacts,
) -> TrafficRules {
    let by_pid = |it: &MemberValue| matches!(it.selector, MemberSelector::Pid(_));
    let sockets = |it: &MemberValue| plan::select(facts, &it.selector).ok();
    rules.values.retain(|earlier| {
        let of = sockets(earlier);
        let is_replaced =
            |it: &MemberValue| it.selector != earlier.selector && by_pid(it) && sockets(it) == of;
        !by_pid(earlier) || of.is_some() && !values.iter().any(is_replaced)
    });
    if rules.policy == TrafficPolicy::Hash {
        rules.policy = TrafficPolicy::Weights;
    }
    for value in values {
        match rules.values.iter_mut().find(|it| it.selector == value.selector) {
            Some(earlier) => earlier.value = value.value,
            None => rules.values.push(value.clone()),
        }
    }
    rules
}

/// Whether the rules make sense for the members of the port. A value that was not `given` now may wait for its
/// member.
pub(super) fn check(
    port: &PortMembers,
    facts: &TrafficFacts,
    rules: &TrafficRules,
    given: &[MemberValue],
) -> Result<(), Error> {
    let mut rules = rules.clone();
    rules.values.retain(|value| {
        given.iter().any(|it| it.selector == value.selector)
            || plan::select(facts, &value.selector).is_ok()
    });
    plan::check(facts, &rules, SteeringTier::Extended).map_err(|refusal| refused(port, refusal))
}

/// The refusal, with what is known about a pid that is no member.
pub(super) fn refused(port: &PortMembers, refusal: TrafficRefusal) -> Error {
    if let TrafficRefusal::UnknownSelector { selector: MemberSelector::Pid(pid), known, .. } =
        &refusal
    {
        let exists = ProcessIdentity::of(pid.cast_unsigned()).is_ok();
        return Error::NoMember { port: port.name(), pid: *pid, exists, known: known.clone() };
    }
    if let TrafficRefusal::OneMember(1) = &refusal
        && let Some(only) = port.sockets.first()
        && only.member.options.is_some_and(|options| !options.reuse_port)
    {
        return Error::NotShared { port: port.name(), holder: Box::new(only.holder.clone()) };
    }
    Error::Refused { port: port.name(), refusal: Box::new(refusal) }
}

/// Refuses to drain the last member that gets connections.
pub(super) fn require_another(
    is_left: bool,
    port: &PortMembers,
    selector: &MemberSelector,
) -> Result<(), Error> {
    match is_left {
        true => Ok(()),
        false => Err(Error::LastMember { port: port.name(), member: selector.clone() }),
    }
}
