//! Facts and rules, and the plans that follow.

use super::*;
use crate::model::Address;
use crate::traffic::model::MemberValue;
use crate::traffic::refusal::RefusalCause;

fn values(text: &str) -> Vec<MemberValue> {
    text.split_whitespace().map(|it| it.parse().unwrap()).collect()
}

fn rules(text: &str) -> TrafficRules {
    let (policy, rest) = text.split_once(' ').unwrap_or((text, ""));
    TrafficRules { values: values(rest), ..TrafficRules::new(policy.parse().unwrap()) }
}

/// Members from words: `web.2`, `web.2@shop` of a group of runs, `4130`; `!` behind: not admitted; `~`:
/// a canary.
fn facts(words: &str) -> TrafficFacts {
    let member = |(index, word): (u16, &str)| {
        let socket = SocketId { inode: 100 + u64::from(index), cookie: None };
        let address = Address::new(Protocol::Tcp, "0.0.0.0:8080".parse().unwrap());
        let name = word.trim_end_matches(['!', '~']);
        let (name, group) = name.split_once('@').map_or((name, None), |(a, b)| (a, Some(b)));
        let (run, worker) = name.rsplit_once('.').map_or((None, None), |(a, b)| (Some(a), Some(b)));
        TrafficMember {
            pid: Some(worker.map_or_else(|| name.parse().unwrap(), |_| 1000 + i32::from(index))),
            run: run.map(|it| it.parse().unwrap()),
            group: group.map(|it| it.parse().unwrap()),
            worker: worker.map(|it| it.parse().unwrap()),
            admitted: !word.contains('!'),
            canary: word.contains('~'),
            ..TrafficMember::new(socket, address)
        }
    };
    TrafficFacts::new(Protocol::Tcp, (0..).zip(words.split_whitespace()).map(member).collect())
}

fn planned_of(members: &str, text: &str) -> TrafficPlan {
    decide(&facts(members), &rules(text), SteeringTier::Extended).unwrap()
}

fn weights(members: &str, text: &str) -> Vec<u32> {
    planned_of(members, text).members.iter().map(|member| member.weight).collect()
}

fn refusal(members: &str, text: &str) -> String {
    let refusal = check(&facts(members), &rules(text), SteeringTier::Extended).unwrap_err();
    assert_ne!(refusal.cause(), RefusalCause::Means, "{refusal}");
    match refusal.next_step() {
        Some(step) => format!("{refusal}; {step}"),
        None => refusal.to_string(),
    }
}

#[test]
fn a_weight_is_divided_over_its_members() {
    // In the order of the plan: sockets without a run, then by run, worker and inode.
    for (members, text, expected) in [
        ("web.1 web.2 web-v2.1", "weights web=9 web-v2=1", &[9, 9, 2][..]),
        ("web.1 web.2 web-v2.1 web-v2.2", "weights web=9 web-v2=1", &[9, 9, 1, 1]),
        ("web.1 web.2 web.3 web-v2.1", "weights web=90 web-v2=10", &[30, 30, 30, 10]),
        ("10 11 12", "weights 10=0", &[0, 1, 1]),
        // A member without a value has weight 1.
        ("10 web.1 web.2", "weights web=4", &[1, 2, 2]),
        // Those that are not admitted take no part of it.
        ("web.1 web.2! web-v2.1", "weights web=9 web-v2=1", &[9, 9, 1]),
        ("web.1! web.2! web-v2.1", "weights web=9 web-v2=1", &[9, 9, 1]),
        // A value whose member is not there waits.
        ("web.1 web.2", "weights web=9 web-v2=1", &[9, 9]),
        // The most specific selector counts, and the rest is divided over the others.
        ("web.1 web.2 web.3", "weights web=8 web.2=0", &[4, 0, 4]),
        ("web.1 web.2", "weights web.1=0 1000=5", &[5, 1]),
        ("a.1@shop a.2@shop b.1@shop", "weights shop=6 b=1", &[3, 3, 1]),
        // A run of this name, else a group.
        ("a.1@shop shop.1@x", "weights shop=6", &[1, 6]),
        // A name with a dot.
        ("api.2.1 api.2.2", "weights api.2=0", &[0, 0]),
        ("api.2.1 api.2", "weights api.2=3", &[3, 1]),
        // Other policies have weights too.
        ("10 11", "least-connections 10=2", &[2, 1]),
        ("10 11", "sticky 10=0", &[0, 1]),
        // Sums beyond 32 bits.
        (
            "10 11 12",
            "weights 10=4294967295 11=4294967295 12=1",
            &[2_147_483_645, 2_147_483_645, 1],
        ),
    ] {
        assert_eq!(weights(members, text), expected, "{members} {text}");
    }
}

#[test]
fn a_thousand_members_never_lose_their_weight() {
    let members: Vec<String> = (1..=1_024).map(|pid| pid.to_string()).collect();
    let members = members.join(" ");
    let plan = planned_of(&members, "weights 1=4294967295 2=0");
    let sum: u64 = plan.members.iter().map(|member| u64::from(member.weight)).sum();
    assert!(sum <= u64::from(u32::MAX));
    assert_eq!(plan.members.iter().filter(|member| member.weight == 0).count(), 1);
    let one_more = facts(&format!("{members} 9999"));
    let refusal = decide(&one_more, &rules("random"), SteeringTier::Extended).unwrap_err();
    assert_eq!(refusal, TrafficRefusal::TooMany(1_025));
}

#[test]
fn a_newcomer_has_the_weight_of_a_member_without_a_value() {
    for (members, text, expected) in [
        ("10 11", "weights 10=9", 1),
        ("web.1 web.2", "weights web=9", 2),
        ("10 11", "random", 1),
        ("10 11", "standby 11=1", 1),
    ] {
        assert_eq!(planned_of(members, text).newcomer_weight, expected, "{members} {text}");
    }
    let mut supervised = facts("web.1 web.2");
    assert_eq!(planned_of("10 11", "random").newcomers, Newcomers::Admit);
    supervised.holds_newcomers = true;
    let plan = decide(&supervised, &rules("random"), SteeringTier::Classic).unwrap();
    assert_eq!(plan.newcomers, Newcomers::HoldBack);
}

#[test]
fn ranks_are_those_of_the_user_else_the_numbers_of_the_workers() {
    for (members, text, expected) in [
        ("web.1 web.2 spare.1", "standby web=0 spare=7", &[7, 0, 0][..]),
        ("web.1 web.2 spare.1", "standby spare=255 spare.1=1", &[1, 0, 0]),
        ("web.1 web.2 web.3", "standby", &[0, 1, 2]),
        ("10 11 12", "standby", &[0, 1, 2]),
        ("web.2 web.1", "standby", &[0, 1]),
    ] {
        let plan = planned_of(members, text);
        let ranks: Vec<u8> = plan.members.iter().map(|member| member.rank).collect();
        assert_eq!(ranks, expected, "{members} {text}");
        assert!(plan.members.iter().all(|member| member.weight == 1));
    }
}

#[test]
fn rules_of_a_user_need_their_members() {
    let known = "the members are shop, web, web-v2, web.1, web.2, web-v2.1, 4130";
    let group = "web.1@shop web.2@shop web-v2.1 4130";
    for (members, text, expected) in [
        (group, "weights wbe=1", &*format!("no member is \"wbe\": the nearest is web; {known}")),
        (
            group,
            "weights web.3=1",
            &format!("no member is \"web.3\": the nearest is web.1; {known}"),
        ),
        (group, "weights 4131=1", &format!("no member is \"4131\": the nearest is 4130; {known}")),
        (group, "weights backend=1", &format!("no member is \"backend\"; {known}")),
        (group, "weights web=1 web=2", "\"web\" has two values"),
        (group, "weights shop=1 web=2", "every member of \"shop\" has a value of its own"),
        (
            "10 11",
            "weights 10=0 11=0",
            "no member would get a connection: every weight is 0; give at least one member a weight \
             above 0",
        ),
        (
            "10 11!",
            "weights 10=0",
            "no member would get a connection: every weight is 0; give at least one member a weight \
             above 0",
        ),
        (
            "10 11",
            "weights",
            "weights needs the value of a member; for example: weights web=9 web-v2=1",
        ),
        (
            "10 11",
            "hash 10=0",
            "hash takes no values of members; random, weights, sticky, least-connections and two-choices \
             take weights",
        ),
        (
            "10 11",
            "round-robin 10=2",
            "round-robin takes no weights: a value is 0, for none, or 1; random, weights, sticky, \
             least-connections and two-choices take weights",
        ),
        ("10 11", "standby 10=256", "\"10=256\": a rank is a number from 0 to 255"),
        ("10", "random", "the group has one member: there is no choice"),
        ("", "random", "the group has no member"),
    ] {
        assert_eq!(refusal(members, text), expected);
    }
    for (members, text) in [
        (group, "weights web=9 web-v2=1 4130=0"),
        (group, "weights shop=9 web.1=1"),
        ("10 11", "standby"),
        ("10 11", "standby 10=0 11=0"),
        ("10 11", "round-robin 10=0"),
        ("10! 11!", "random"),
    ] {
        assert_eq!(check(&facts(members), &rules(text), SteeringTier::Extended), Ok(()), "{text}");
    }
}

#[test]
fn a_tier_says_what_it_cannot_do_and_what_could() {
    use TrafficPolicy as P;
    for policy in P::ALL {
        let rules = TrafficRules::new(policy);
        assert!(decide(&facts("10 11"), &rules, SteeringTier::Extended).is_ok());
        let classic = decide(&facts("10 11"), &rules, SteeringTier::Classic);
        let has_state = matches!(policy, P::RoundRobin | P::LeastConnections | P::TwoChoices);
        assert_eq!(classic.is_err(), has_state, "{policy}");
        if let Err(refusal) = classic {
            assert_eq!(refusal.cause(), RefusalCause::Means);
            assert!(
                refusal.next_step().unwrap().contains("CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")
            );
        }
        let unordered =
            TrafficFacts { order_unknown: Some("a stranger joined".into()), ..facts("10 11") };
        assert_eq!(decide(&unordered, &rules, SteeringTier::Classic).is_ok(), policy == P::Hash);
        assert!(decide(&unordered, &rules, SteeringTier::Extended).is_ok());
    }
    let refusal = decide(&facts("1 2"), &rules("round-robin"), SteeringTier::Classic).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "classic BPF cannot do round-robin: its programs keep nothing between two connections"
    );
}

/// A socket of a process on an address.
fn socket(inode: u64, address: &str, pid: Option<i32>) -> TrafficMember {
    let address = Address::new(Protocol::Tcp, address.parse().unwrap());
    TrafficMember { pid, ..TrafficMember::new(SocketId { inode, cookie: None }, address) }
}

#[test]
fn the_sockets_of_one_owner_are_one_member() {
    let (v4, v6) = ("0.0.0.0:80", "[::]:80");
    let inodes = |sockets: Vec<TrafficMember>| -> Vec<Vec<u64>> {
        let facts = TrafficFacts::new(Protocol::Tcp, sockets);
        let plan = decide(&facts, &rules("random"), SteeringTier::Classic).unwrap();
        let members = plan.members.iter();
        members.map(|it| it.sockets.iter().map(|socket| socket.inode).collect()).collect()
    };
    for (sockets, expected) in [
        (
            vec![(1, v4, Some(10)), (2, v6, Some(10)), (3, v4, Some(11)), (4, v6, Some(11))],
            vec![vec![1, 2], vec![3, 4]],
        ),
        // A process with several sockets on each address: the first of each, then the second.
        (
            vec![(1, v4, Some(10)), (2, v4, Some(10)), (3, v6, Some(10)), (4, v6, Some(10))],
            vec![vec![1, 3], vec![2, 4]],
        ),
        (vec![(1, v4, Some(10)), (2, v4, Some(10))], vec![vec![1], vec![2]]),
        // One of them has only IPv4.
        (vec![(1, v4, Some(10)), (2, v6, Some(10)), (3, v4, Some(11))], vec![vec![1, 2], vec![3]]),
        // Nobody knows whose they are.
        (vec![(1, v4, None), (2, v6, None)], vec![vec![1], vec![2]]),
    ] {
        let sockets = sockets.into_iter().map(|(inode, at, pid)| socket(inode, at, pid)).collect();
        assert_eq!(inodes(sockets), expected);
    }
    // A worker whose process is not known, and its successor.
    let of_web = |inode, at, pid| TrafficMember {
        run: Some("web".parse().unwrap()),
        worker: Some(1),
        ..socket(inode, at, pid)
    };
    assert_eq!(inodes(vec![of_web(1, v4, None), of_web(2, v6, None)]), [[1, 2]]);
    assert_eq!(inodes(vec![of_web(1, v4, Some(5)), of_web(2, v6, Some(6))]), [[1], [2]]);
    // One socket that is not ready makes the member wait.
    let mut half = vec![socket(1, v4, Some(5)), socket(2, v6, Some(5))];
    half[1].admitted = false;
    let facts = TrafficFacts::new(Protocol::Tcp, half);
    let plan = decide(&facts, &rules("random"), SteeringTier::Classic).unwrap();
    assert!(!plan.members[0].takes());
}

#[test]
fn a_canary_needs_members_of_both_kinds() {
    let canary = Some(crate::traffic::model::CanaryShare { per_10000: 1_000 });
    for (members, holds) in [
        ("web.1 web.2 web.3~", true),
        ("web.1 web.2", false),
        ("web.1~ web.2~", false),
        ("web.1 web.2!~", false),
        ("web.1! web.2~", false),
    ] {
        let rules = TrafficRules { canary, ..rules("random") };
        let plan = decide(&facts(members), &rules, SteeringTier::Classic).unwrap();
        assert_eq!(plan.canary.is_some(), holds, "{members}");
    }
}

#[test]
fn a_canary_takes_no_part_of_the_weight_of_its_worker() {
    let canary = Some(crate::traffic::model::CanaryShare { per_10000: 1_000 });
    for (members, text, expected) in [
        ("web.1 web.1~ web.2 web.3", "weights web.1=3", &[3, 3, 1, 1][..]),
        ("web.1 web.1~ web.2 web.3", "weights web=3", &[1, 1, 1, 1]),
        ("web.1 web.1~ web.2~", "weights web.2=4", &[1, 1, 4]),
    ] {
        let rules = TrafficRules { canary, ..rules(text) };
        let plan = decide(&facts(members), &rules, SteeringTier::Extended).unwrap();
        let weights: Vec<u32> = plan.members.iter().map(|member| member.weight).collect();
        assert_eq!(weights, expected, "{members} {text}");
    }
}

#[test]
fn processors_and_nodes_are_those_of_the_program_else_dealt() {
    let places = |policy: &str, chosen: &[Option<u32>]| -> Vec<Option<u32>> {
        let mut facts =
            facts(&"1 2 3 4 5 6".split(' ').take(chosen.len()).collect::<Vec<_>>().join(" "));
        facts.processors = (0..4).map(|number| Processor { number, node: number / 2 }).collect();
        for (member, place) in facts.members.iter_mut().zip(chosen) {
            (member.incoming_cpu, member.node) = (*place, *place);
        }
        let plan = decide(&facts, &rules(policy), SteeringTier::Classic).unwrap();
        plan.members.iter().map(|member| member.place).collect()
    };
    let all = |numbers: &[u32]| numbers.iter().copied().map(Some).collect::<Vec<_>>();
    assert_eq!(places("cpu", &[None; 6]), all(&[0, 1, 2, 3, 0, 1]));
    assert_eq!(places("cpu", &[Some(3), None, Some(77), None]), all(&[3, 0, 77, 1]));
    assert_eq!(places("numa", &[None; 3]), all(&[0, 1, 0]));
    assert_eq!(places("random", &[Some(3), None]), [None, None]);
}

#[test]
fn a_key_is_of_the_worker_whatever_its_socket() {
    let keys = |members: &str| -> Vec<u64> {
        planned_of(members, "sticky").members.iter().map(|member| member.key).collect()
    };
    assert_eq!(keys("web.1 web.2"), keys("web.1 9 web.2")[1..]);
    assert_eq!(keys("9 10"), [100, 101]);
    // A worker with two sockets on one address, and its successor beside it.
    let of = |inode, pid| TrafficMember {
        run: Some("web".parse().unwrap()),
        worker: Some(1),
        ..socket(inode, "0.0.0.0:80", Some(pid))
    };
    let sockets = vec![of(1, 50), of(2, 50), of(3, 51), of(4, 51)];
    let facts = TrafficFacts::new(Protocol::Tcp, sockets);
    let plan = decide(&facts, &rules("sticky"), SteeringTier::Extended).unwrap();
    let keys: Vec<u64> = plan.members.iter().map(|member| member.key).collect();
    assert!(keys[0] != keys[1] && keys[..2] == keys[2..], "{keys:?}");
}

#[test]
fn members_of_other_runs_have_other_keys() {
    let keys = |members: &str| -> Vec<u64> {
        planned_of(members, "sticky").members.iter().map(|member| member.key).collect()
    };
    assert_ne!(keys("web.1 web.2")[0], keys("web.1 web.2")[1]);
}

#[test]
fn a_selector_names_the_sockets_of_its_members() {
    let facts = facts("web.1 web.2 api.1@shop 4130");
    let inodes = |text: &str| {
        let found = select(&facts, &text.parse().unwrap());
        found.map(|all| all.iter().flatten().map(|id| id.inode).collect::<Vec<_>>())
    };
    let all = decide(&facts, &rules("random"), SteeringTier::Extended).unwrap();
    let inode_of = |at: usize| all.members[at].sockets[0].inode;
    // In the order of the plan: members of no run come first.
    for (text, expected) in [
        ("web", vec![inode_of(2), inode_of(3)]),
        ("web.2", vec![inode_of(3)]),
        ("shop", vec![inode_of(1)]),
        ("4130", vec![inode_of(0)]),
    ] {
        assert_eq!(inodes(text), Ok(expected), "{text}");
    }
    let unknown = inodes("wep").unwrap_err();
    assert_eq!(unknown.to_string(), "no member is \"wep\": the nearest is web");
}
