//! The steps of weights and ranks.

use super::*;

/// The policy, its values, the weights of three members, the step of the first: the values after it.
type StepCase<'a> = (&'a str, TrafficPolicy, &'a [&'a str], [u32; 3], bool, Option<&'a [&'a str]>);

#[test]
fn a_step_changes_one_member_and_keeps_the_others() {
    use TrafficPolicy::{Hash, LeastConnections, Standby, Weights};
    let most = u32::MAX.to_string();
    let (at_most, at_most_text) = (format!("web.1={most}"), u32::MAX);
    let cases: [StepCase<'_>; 10] = [
        ("without values", Hash, &[], [1, 1, 1], true, Some(&["web.1=2"])),
        ("to nothing", LeastConnections, &[], [1, 1, 1], false, Some(&["web.1=0"])),
        ("a value of its own", Weights, &["web.1=9"], [9, 1, 1], false, Some(&["web.1=8"])),
        (
            "beside the value of another",
            Weights,
            &["web.2=5"],
            [1, 5, 1],
            true,
            Some(&["web.1=2", "web.2=5", "7=1"]),
        ),
        (
            "a value of the run, divided",
            Weights,
            &["web=9"],
            [9, 9, 2],
            true,
            Some(&["web.1=10", "web.2=9", "7=2"]),
        ),
        ("the least", Weights, &["web.1=0"], [0, 1, 1], false, None),
        ("the most", Weights, &[&at_most], [at_most_text, 1, 1], true, None),
        ("a rank", Standby, &["web=2"], [2, 2, 0], true, Some(&["web.1=3"])),
        ("the first rank", Standby, &[], [0, 1, 2], false, None),
        (
            "the ranks of the numbers",
            Standby,
            &[],
            [0, 1, 2],
            true,
            Some(&["web.1=1", "web.2=1", "7=2"]),
        ),
    ];
    for (case, policy, values, weights, up, expected) in cases {
        let listeners = [
            of_run(1, TopPhase::Ready, tcp(1, "0.0.0.0:80", &[4])),
            of_run(2, TopPhase::Ready, tcp(2, "0.0.0.0:80", &[5])),
            tcp(3, "0.0.0.0:80", &[7]),
        ];
        let mut frame = last_frame(&[look(0, &listeners, &[])]);
        let group = &mut frame.groups[0];
        let values = values.iter().map(|it| it.parse().unwrap()).collect();
        group.rules = Some(TrafficRules { values, ..TrafficRules::new(policy) });
        for (member, weight) in group.members.iter_mut().zip(weights) {
            member.weight = Some(weight);
        }
        let found = stepped_values(group, &group.members[0], up);
        let found = found.map(|it| it.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(
            found,
            expected.map(|it| it.iter().map(|it| (*it).to_owned()).collect()),
            "{case}"
        );
    }
}

#[test]
fn a_member_without_a_name_has_no_weight() {
    let frame = last_frame(&[look(0, &[tcp(1, "0.0.0.0:80", &[])], &[])]);
    let group = only_group(&frame);
    assert_eq!(selector(&group.members[0]), None);
    assert_eq!(stepped_values(group, &group.members[0], true), None);
}
