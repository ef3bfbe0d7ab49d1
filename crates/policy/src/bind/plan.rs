//! The decision about one `bind` of a worker: facts in, steps out.

use std::net::SocketAddr;

use crate::bind::facts::{BindFacts, BindRights, MissingFact};
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
    let mapping = mapping(facts, asked);
    let (rule, target) = match mapping {
        None => (None, asked),
        Some((rule, Mapping::To(target))) => (Some(rule), target),
        Some((rule, Mapping::OtherFamily)) => {
            let action = BindAction::Refuse(BindRefusal::OtherFamily);
            let plan = BindPlan { rule: Some(rule), target: asked, action };
            return Decision::Plan(plan);
        }
    };
    let attempt = BindAttempt { address: Some(target), ..facts.attempt.clone() };
    let verdict = verdict::decide(&attempt, run.ports);
    let is_shared = !matches!(verdict, ShareDecision::LeaveAlone(_));
    let owner = run.owner.filter(|_| private::takes(verdict));
    let transparent = run.transparent && attempt.same_network;
    let held = is_shared && run.holds;

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
    // With SO_REUSEADDR on all sockets, the kernel lets other users' datagram sockets share an address.
    // SO_REUSEPORT would make it refuse this one.
    let is_foreign = members.is_some_and(|members| members.foreign);
    if is_foreign && is_datagram && attempt.reuse_address && !attempt.reuse_port {
        return plan(BindAction::Bind(unshared(owner, rule, rights)));
    }
    if let Some(stranger) = members.and_then(|it| it.stranger.clone()) {
        return plan(BindAction::Refuse(BindRefusal::InUse(stranger)));
    }
    let may_bind = rights.is_none_or(|rights| rights.may_bind);
    let share = match verdict {
        ShareDecision::Share { clear_reuse_address } => Some(SetReusePort { clear_reuse_address }),
        ShareDecision::SharedByItself | ShareDecision::LeaveAlone(_) => None,
    };
    plan(BindAction::Bind(BindSteps {
        owner: owner
            .map(|uid| NewOwner { uid, reuse_address: members.is_some_and(|it| it.group_listens) }),
        not_held: run.holds && target.port() == 0,
        share,
        transparent: transparent.then(|| rights.is_some_and(|rights| rights.may_be_transparent)),
        freebind: run.freebind && attempt.same_network,
        held: held.then_some(may_bind),
        by: caller(rule, may_bind),
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
mod tests {
    use super::*;
    use crate::bind::facts::{PortMembers, RunRules};
    use crate::bind::verdict::PortSet;

    const RUN: RunRules<'static> = RunRules {
        ports: &PortSet::All,
        rules: &[],
        transparent: false,
        freebind: false,
        owner: None,
        holds: false,
    };
    const ALL: BindRights = BindRights { may_bind: true, may_be_transparent: true };
    const NONE: BindRights = BindRights { may_bind: false, may_be_transparent: false };

    /// A TCP socket about to bind `ADDRESS`, about which everything is known.
    fn facts<'a>(run: RunRules<'a>, address: &str) -> BindFacts<'a> {
        BindFacts {
            run,
            attempt: BindAttempt {
                protocol: Some(Protocol::Tcp),
                address: address.parse().ok(),
                reuse_port: false,
                reuse_address: true,
                same_network: true,
            },
            v6only: false,
            on_device: false,
            rights: Some(ALL),
            members: Some(PortMembers::default()),
            kept_out: Some(false),
        }
    }

    fn plan(facts: &BindFacts<'_>) -> BindPlan {
        match decide(facts, facts.attempt.address.unwrap()) {
            Decision::Plan(plan) => plan,
            Decision::Lookup(missing) => panic!("{missing:?}"),
        }
    }

    fn steps(facts: &BindFacts<'_>) -> BindSteps {
        match plan(facts).action {
            BindAction::Bind(steps) => steps,
            BindAction::Refuse(refusal) => panic!("{refusal:?}"),
        }
    }

    const SHARE: BindSteps = BindSteps {
        share: Some(SetReusePort { clear_reuse_address: false }),
        follow: true,
        ..BindSteps::CONTINUE
    };

    #[test]
    fn facts_to_steps() {
        let only = PortSet::Only([81].into());
        let left_alone = RunRules { ports: &only, ..RUN };
        let transparent = RunRules { transparent: true, ..RUN };
        let freebind = RunRules { freebind: true, ..RUN };
        let private = RunRules { owner: Some(7), ..RUN };
        let holds = RunRules { holds: true, ..RUN };
        let owner = |reuse_address| Some(NewOwner { uid: 7, reuse_address });
        let beside_another_user = |mut facts: BindFacts<'static>| {
            facts.members = Some(PortMembers { foreign: true, ..PortMembers::default() });
            facts
        };
        let without_reuse = |facts: &BindFacts<'static>| {
            let mut facts = facts.clone();
            facts.attempt.reuse_address = false;
            facts
        };
        let kept_out = |facts| BindFacts { kept_out: Some(true), ..facts };

        let tcp = facts(RUN, "127.0.0.1:80");
        let mut udp = tcp.clone();
        udp.attempt.protocol = Some(Protocol::Udp);
        let mut by_itself = tcp.clone();
        by_itself.attempt.reuse_port = true;
        let mut elsewhere = facts(RunRules { transparent: true, ..private }, "127.0.0.1:80");
        elsewhere.attempt.same_network = false;
        let mut forbidden = facts(transparent, "127.0.0.1:80");
        forbidden.rights = Some(NONE);
        let mut beside = facts(private, "127.0.0.1:80");
        beside.members = Some(PortMembers { stranger: None, group_listens: true, foreign: false });
        let clear = BindSteps { share: Some(SetReusePort { clear_reuse_address: true }), ..SHARE };
        let alone = BindSteps::CONTINUE;
        let cases = [
            (tcp.clone(), SHARE),
            (udp.clone(), clear),
            (by_itself.clone(), BindSteps { share: None, ..SHARE }),
            (elsewhere, alone),
            (facts(left_alone, "127.0.0.1:80"), alone),
            (facts(RUN, "127.0.0.1:0"), alone),
            (facts(transparent, "127.0.0.1:80"), BindSteps { transparent: Some(true), ..SHARE }),
            (facts(transparent, "127.0.0.1:0"), BindSteps { transparent: Some(true), ..alone }),
            (facts(freebind, "192.0.2.1:80"), BindSteps { freebind: true, ..SHARE }),
            (facts(freebind, "127.0.0.1:0"), BindSteps { freebind: true, ..alone }),
            (forbidden, BindSteps { transparent: Some(false), ..SHARE }),
            (facts(private, "127.0.0.1:80"), BindSteps { owner: owner(false), ..SHARE }),
            (facts(private, "127.0.0.1:0"), BindSteps { owner: owner(false), ..alone }),
            (beside, BindSteps { owner: owner(true), ..SHARE }),
            (facts(holds, "127.0.0.1:80"), BindSteps { held: Some(true), ..SHARE }),
            (facts(holds, "127.0.0.1:0"), BindSteps { not_held: true, ..alone }),
            (beside_another_user(udp.clone()), alone),
            (beside_another_user(without_reuse(&udp)), SHARE),
            (beside_another_user(tcp.clone()), SHARE),
            (kept_out(facts(RUN, "127.0.0.1:80")), alone),
            (kept_out(facts(holds, "127.0.0.1:80")), alone),
            (kept_out(facts(private, "127.0.0.1:80")), BindSteps { owner: owner(false), ..alone }),
            (kept_out(by_itself.clone()), BindSteps { share: None, ..SHARE }),
        ];
        for (facts, expected) in cases {
            assert_eq!(steps(&facts), expected, "{facts:?}");
            if facts.run.leave_alone(facts.attempt.address.unwrap()) {
                assert_eq!(expected, alone, "{facts:?}");
            }
        }
        let is_left_alone =
            |run: RunRules<'_>, address: &str| run.leave_alone(address.parse().unwrap());
        assert!(is_left_alone(left_alone, "127.0.0.1:80") && is_left_alone(RUN, "[::]:0"));
        assert!(!is_left_alone(RUN, "127.0.0.1:80") && !is_left_alone(holds, "[::]:0"));
    }

    #[test]
    fn a_moved_bind_is_the_supervisors() {
        let rules = ["80=127.0.0.2:8080".parse().unwrap(), "82=[::1]".parse().unwrap()];
        let only = PortSet::Only([81].into());
        let moving = RunRules { rules: &rules, ..RUN };
        let moved = facts(moving, "127.0.0.1:80");
        let mut denied = moved.clone();
        denied.rights = Some(NONE);
        let supervisor = BindSteps { by: BindCaller::Supervisor, ..SHARE };
        let target = "127.0.0.2:8080".parse().unwrap();
        let expected = BindPlan { rule: Some(0), target, action: BindAction::Bind(supervisor) };
        assert_eq!(plan(&moved), expected);
        assert_eq!(steps(&denied), BindSteps { by: BindCaller::Denied, ..SHARE });
        let unshared = steps(&facts(RunRules { ports: &only, ..moving }, "127.0.0.1:80"));
        assert_eq!(unshared, BindSteps { share: None, ..supervisor });
        assert_eq!(steps(&facts(moving, "127.0.0.1:81")), SHARE);
        let other_family = plan(&facts(moving, "127.0.0.1:82"));
        assert_eq!(other_family.action, BindAction::Refuse(BindRefusal::OtherFamily));
        assert_eq!(other_family.rule, Some(1));
    }

    #[test]
    fn refusals_touch_nothing() {
        let private = RunRules { owner: Some(7), ..RUN };
        let mut on_device = facts(private, "127.0.0.1:80");
        on_device.on_device = true;
        let mut taken = facts(RUN, "127.0.0.1:80");
        taken.members = Some(PortMembers {
            stranger: Some(Box::new(NotAMember::Unseen)),
            group_listens: false,
            foreign: false,
        });
        let mut left_alone = taken.clone();
        left_alone.attempt.address = "127.0.0.1:0".parse().ok();
        let refused = |facts| plan(facts).action;
        assert_eq!(refused(&on_device), BindAction::Refuse(BindRefusal::PrivateOnDevice));
        let stranger = BindRefusal::InUse(Box::new(NotAMember::Unseen));
        assert_eq!(refused(&taken), BindAction::Refuse(stranger));
        assert_eq!(refused(&left_alone), BindAction::Bind(BindSteps::CONTINUE));
    }

    #[test]
    fn only_the_facts_that_matter_are_looked_up() {
        let rules = ["80=8080".parse().unwrap()];
        let moving = RunRules { rules: &rules, ..RUN };
        let holds = RunRules { holds: true, ..RUN };
        let transparent = RunRules { transparent: true, ..RUN };
        let freebind = RunRules { freebind: true, ..RUN };
        let lookup_on = |protocol, run, address: &str| {
            let mut facts = BindFacts { rights: None, members: None, ..facts(run, address) };
            facts.attempt.protocol = Some(protocol);
            match decide(&facts, facts.attempt.address.unwrap()) {
                Decision::Lookup(missing) => Some(missing),
                Decision::Plan(_) => None,
            }
        };
        let lookup = |run, address: &str| lookup_on(Protocol::Tcp, run, address);
        let members = Some(MissingFact::Members("127.0.0.1:80".parse().unwrap()));
        assert_eq!(lookup(RUN, "127.0.0.1:80"), members);
        assert_eq!(lookup(RUN, "127.0.0.1:0"), None);
        let unknown = BindFacts { kept_out: None, ..facts(RUN, "127.0.0.1:80") };
        let kept_out = MissingFact::KeptOut("127.0.0.1:80".parse().unwrap());
        assert_eq!(decide(&unknown, "127.0.0.1:80".parse().unwrap()), Decision::Lookup(kept_out));
        assert_eq!(lookup(freebind, "127.0.0.1:0"), None);
        assert_eq!(lookup(moving, "127.0.0.1:80"), Some(MissingFact::Rights(8080)));
        assert_eq!(lookup(moving, "127.0.0.1:0"), None);
        assert_eq!(lookup(holds, "127.0.0.1:80"), members);
        let of_datagrams = lookup_on(Protocol::Udp, holds, "127.0.0.1:80");
        assert_eq!(of_datagrams, Some(MissingFact::Rights(80)));
        assert_eq!(lookup(transparent, "127.0.0.1:0"), Some(MissingFact::Rights(0)));
    }
}
