//! Tables of facts and the steps that follow from them.

use super::*;
use crate::bind::facts::{Outsiders, PortMembers, RunRules};
use crate::bind::verdict::PortSet;

const RUN: RunRules<'static> = RunRules::PLAIN;
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
    let only = PortSet::Only([81.into()].into());
    let left_alone = RunRules { ports: &only, ..RUN };
    let transparent = RunRules { transparent: true, ..RUN };
    let freebind = RunRules { freebind: true, ..RUN };
    let private = RunRules { owner: Some(7), ..RUN };
    let holds = RunRules { holds: true, ..RUN };
    let owner = |reuse_address| Some(NewOwner { uid: 7, reuse_address });
    let beside = |outsiders, facts: &BindFacts<'static>| {
        let members = Some(PortMembers { outsiders, ..PortMembers::default() });
        BindFacts { members, ..facts.clone() }
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
    let mut beside_listener = facts(private, "127.0.0.1:80");
    beside_listener.members = Some(PortMembers { group_listens: true, ..PortMembers::default() });
    let mut private_udp = udp.clone();
    private_udp.run = private;
    let mut udp_by_itself = udp.clone();
    udp_by_itself.attempt.reuse_port = true;
    let at = |address: &str, facts: &BindFacts<'static>| {
        let mut facts = facts.clone();
        facts.attempt.address = address.parse().ok();
        facts
    };
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
        (beside_listener, BindSteps { owner: owner(true), ..SHARE }),
        (facts(holds, "127.0.0.1:80"), BindSteps { held: Some(true), ..SHARE }),
        (facts(holds, "127.0.0.1:0"), BindSteps { not_held: true, ..alone }),
        (beside(Outsiders::Apart, &udp), BindSteps { follow: true, ..alone }),
        (beside(Outsiders::Apart, &udp_by_itself), BindSteps { follow: true, ..alone }),
        (beside(Outsiders::Apart, &without_reuse(&udp)), SHARE),
        (beside(Outsiders::Apart, &tcp), SHARE),
        (beside(Outsiders::Apart, &private_udp), BindSteps { owner: owner(false), ..SHARE }),
        (beside(Outsiders::Joined, &udp), SHARE),
        (beside(Outsiders::Joined, &udp_by_itself), BindSteps { share: None, ..SHARE }),
        (at("0.0.0.0:5353", &udp), SHARE),
        (at("[::]:1900", &udp), SHARE),
        (at("127.0.0.1:5353", &udp), clear),
        (at("0.0.0.0:53", &udp), clear),
        (at("224.0.0.251:5353", &udp), alone),
        (at("255.255.255.255:67", &udp), alone),
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
    let rules = ["80=127.0.0.2:8080".parse().unwrap(), "82=[2001:db8::1]".parse().unwrap()];
    let only = PortSet::Only([81.into()].into());
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
        ..PortMembers::default()
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
