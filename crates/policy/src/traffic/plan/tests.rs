//! Facts and rules, and the plans that follow.

use super::*;
use crate::model::Address;
use crate::traffic::model::MemberValue;

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
        let (run, worker) = name.split_once('.').map_or((None, None), |(a, b)| (Some(a), Some(b)));
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

fn weights(members: &str, text: &str) -> Vec<u32> {
    let plan = decide(&facts(members), &rules(text), SteeringTier::Classic).unwrap();
    plan.members.iter().map(|member| member.weight).collect()
}

#[test]
fn a_weight_is_divided_over_its_members() {
    for (members, text, expected) in [
        ("web.1 web.2 web-v2.1", "weights web=9 web-v2=1", &[9, 9, 2][..]),
        ("web.1 web.2 web-v2.1 web-v2.2", "weights web=9 web-v2=1", &[9, 9, 1, 1]),
        ("10 11 12", "weights 10=0", &[0, 1, 1]),
        ("web.1 web.2 web.3!", "weights web=9", &[9, 9, 9]),
    ] {
        assert_eq!(weights(members, text), expected, "{members} {text}");
    }
}
