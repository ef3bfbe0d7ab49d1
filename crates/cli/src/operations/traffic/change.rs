//! What a user wants of a port, and the refusals that do not depend on who applies the change: the supervisor
//! or the kernel's state.

use sameport_policy::traffic::{
    MemberSelector, MemberValue, TrafficPolicy, TrafficRefusal, TrafficRules,
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

/// The rules that hold, with other values of some members. Where the hash holds, weights do.
pub(super) fn with_values(mut rules: TrafficRules, values: &[MemberValue]) -> TrafficRules {
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
