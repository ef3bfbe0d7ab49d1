//! The decision about one `bind` of a worker: facts in, steps out.

use std::net::SocketAddr;

use crate::bind::facts::{BindFacts, BindRights, MissingFact, Outsiders};
use crate::bind::map;
use crate::bind::map::{MapRequest, Mapping};
use crate::bind::private;
use crate::bind::share::{BindAttempt, ShareDecision};
use crate::bind::verdict;
use crate::membership::NotAMember;
use crate::model::Protocol;

/// A decision, or the fact that it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<P> {
    /// Look this fact up and decide again.
    Lookup(MissingFact),
    /// The decision.
    Plan(P),
}

/// The decision about a bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindPlan {
    /// The rule that moves the bind, by its place in the list.
    pub rule: Option<usize>,
    /// Where the socket gets bound.
    pub target: SocketAddr,
    /// The action.
    pub action: BindAction,
}

/// The action on the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindAction {
    /// The call fails, and the socket is not touched.
    Refuse(BindRefusal),
    /// The socket is prepared and bound.
    Bind(BindSteps),
}

/// Why a bind fails without being tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindRefusal {
    /// EAFNOSUPPORT: the rule names an address of a family that the socket cannot have.
    OtherFamily,
    /// EACCES: a socket on a device cannot be kept private.
    PrivateOnDevice,
    /// EADDRINUSE: the address belongs to another group.
    InUse(Box<NotAMember>),
}

/// The steps of a bind, in this order. A step that fails ends the bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindSteps {
    /// Give the socket to the private group.
    pub owner: Option<NewOwner>,
    /// Do not hold this socket: the kernel picks its port.
    pub not_held: bool,
    /// Set `SO_REUSEPORT`.
    pub share: Option<SetReusePort>,
    /// Set `IP_TRANSPARENT`, or fail with EPERM where the worker could not set it.
    pub transparent: Option<bool>,
    /// Set `IP_FREEBIND`, which needs no right.
    pub freebind: bool,
    /// Bind through the held sockets, if they take the bind; the flag says whether the worker may
    /// bind the port itself. TCP: only a socket that was given to the run takes a bind, for every
    /// worker.
    pub held: Option<bool>,
    /// Bind the socket, unless a held socket did.
    pub by: BindCaller,
    /// Follow the call until its outcome is known.
    pub follow: bool,
}

/// How a socket becomes a private group's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewOwner {
    /// The group's user id.
    pub uid: u32,
    /// The value of `SO_REUSEADDR`.
    pub reuse_address: bool,
}

/// How a socket becomes shareable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetReusePort {
    /// Clear `SO_REUSEADDR` first.
    pub clear_reuse_address: bool,
}

/// The caller of `bind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindCaller {
    /// The worker: its own call continues.
    Worker,
    /// The supervisor, to the target, in the worker's place.
    Supervisor,
    /// None: the call fails with EACCES, because the worker could not bind the target itself.
    Denied,
}

impl BindSteps {
    /// The worker's own call continues, and nothing else happens.
    pub const CONTINUE: Self = Self {
        owner: None,
        not_held: false,
        share: None,
        transparent: None,
        freebind: false,
        held: None,
        by: BindCaller::Worker,
        follow: false,
    };
}

/// Decides.
#[must_use]
pub fn decide(facts: &BindFacts<'_>, asked: SocketAddr) -> Decision<BindPlan> {
    let run = facts.run;
    let (rule, target) = match mapping(facts, asked) {
        None => (None, asked),
        Some((rule, Mapping::To(target))) => (Some(rule), target),
        Some((rule, Mapping::OtherFamily)) => {
            let action = BindAction::Refuse(BindRefusal::OtherFamily);
            return Decision::Plan(BindPlan { rule: Some(rule), target: asked, action });
        }
    };
    let attempt = BindAttempt { address: Some(target), ..facts.attempt.clone() };
    let verdict = verdict::decide(&attempt, run.ports);
    let is_shared = !matches!(verdict, ShareDecision::LeaveAlone(_));
    let owner = run.owner.filter(|_| private::takes(verdict));
    let transparent = run.transparent && attempt.same_network;
    let held = is_shared && run.holds;

    let freebind = run.freebind && attempt.same_network;
    let plan = |action| Decision::Plan(BindPlan { rule, target, action });
    if owner.is_some() && facts.on_device {
        return plan(BindAction::Refuse(BindRefusal::PrivateOnDevice));
    }
    // The worker binds a TCP socket itself; a held datagram socket is bound for it.
    let is_datagram = attempt.protocol == Some(Protocol::Udp);
    let needs_rights = transparent || held && is_datagram || rule.is_some();
    let Some(rights) = facts.rights.map(Some).or((!needs_rights).then_some(None)) else {
        return Decision::Lookup(MissingFact::Rights(target.port()));
    };
    let transparent = transparent.then(|| rights.is_some_and(|rights| rights.may_be_transparent));
    // Left unshared, the kernel refuses it: a duplicate of the earlier socket keeps the address.
    if matches!(verdict, ShareDecision::Share { .. }) {
        match facts.kept_out {
            None => return Decision::Lookup(MissingFact::KeptOut(target)),
            Some(true) => return plan(BindAction::Bind(unshared(owner, rule, rights))),
            Some(false) => {}
        }
    }
    let members = facts.members.as_ref().filter(|_| is_shared);
    if is_shared && members.is_none() {
        return Decision::Lookup(MissingFact::Members(target));
    }
    let may_bind = rights.is_none_or(|rights| rights.may_bind);
    // With SO_REUSEADDR on all sockets, the kernel lets datagram sockets share an address, whatever their
    // users. Without the option, or with SO_REUSEPORT in its place, it would refuse this one.
    let outsiders = members.map_or(Outsiders::None, |members| members.outsiders);
    let reuses_address = is_datagram && attempt.reuse_address;
    let by = caller(rule, may_bind);
    if reuses_address && outsiders == Outsiders::Apart && owner.is_none() {
        let steps = BindSteps { transparent, freebind, by, follow: true, ..BindSteps::CONTINUE };
        return plan(BindAction::Bind(steps));
    }
    if let Some(stranger) = members.and_then(|it| it.stranger.clone()) {
        return plan(BindAction::Refuse(BindRefusal::InUse(stranger)));
    }
    let share = match verdict {
        ShareDecision::Share { clear_reuse_address } => Some(SetReusePort {
            clear_reuse_address: clear_reuse_address && outsiders == Outsiders::None,
        }),
        ShareDecision::SharedByItself | ShareDecision::LeaveAlone(_) => None,
    };
    plan(BindAction::Bind(BindSteps {
        owner: owner
            .map(|uid| NewOwner { uid, reuse_address: members.is_some_and(|it| it.group_listens) }),
        not_held: run.holds && target.port() == 0,
        share,
        transparent,
        freebind,
        held: held.then_some(may_bind),
        by,
        // An unshared socket is not followed: as long as the supervisor has a duplicate, a socket
        // that its worker has closed keeps the address, and the worker's next bind is refused.
        follow: is_shared || rule.is_some(),
    }))
}

fn caller(rule: Option<usize>, may_bind: bool) -> BindCaller {
    match rule {
        None => BindCaller::Worker,
        Some(_) if may_bind => BindCaller::Supervisor,
        Some(_) => BindCaller::Denied,
    }
}

/// The steps for a socket that an earlier one of the same execution keeps out. It is not followed: the
/// program expects the refusal.
fn unshared(owner: Option<u32>, rule: Option<usize>, rights: Option<BindRights>) -> BindSteps {
    BindSteps {
        owner: owner.map(|uid| NewOwner { uid, reuse_address: false }),
        by: caller(rule, rights.is_none_or(|rights| rights.may_bind)),
        ..BindSteps::CONTINUE
    }
}

/// The rule for this bind, and where it moves the bind. Rules are for the supervisor's own network
/// namespace only.
fn mapping(facts: &BindFacts<'_>, address: SocketAddr) -> Option<(usize, Mapping)> {
    let protocol = facts.attempt.protocol.filter(|_| facts.attempt.same_network)?;
    map::decide(facts.run.rules, &MapRequest { protocol, address, v6only: facts.v6only })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
