//! Words and what they mean, and the messages about the others.

use super::*;

#[test]
fn every_policy_has_a_name_that_parses() {
    for policy in TrafficPolicy::ALL {
        assert_eq!(policy.name().parse(), Ok(policy));
    }
    for (text, expected) in [
        (
            "least-connection",
            "\"least-connection\" is not a policy: the nearest is least-connections",
        ),
        ("roundrobin", "\"roundrobin\" is not a policy: the nearest is round-robin"),
        (
            "leastconn",
            "\"leastconn\" is not a policy: they are hash, random, weights, sticky, round-robin, \
             standby, least-connections, two-choices, cpu, numa",
        ),
        ("Random\n", "\"Random\\n\" is not a policy: the nearest is random"),
    ] {
        assert_eq!(text.parse::<TrafficPolicy>().unwrap_err().to_string(), expected);
    }
}

#[test]
fn selectors_are_pids_workers_and_names() {
    let name = |text: &str| text.parse().unwrap();
    for (text, expected) in [
        ("4130", MemberSelector::Pid(4130)),
        ("web", MemberSelector::Name(name("web"))),
        ("web.2", MemberSelector::Worker(name("web"), 2)),
        ("web.02", MemberSelector::Name(name("web.02"))),
        ("web.0", MemberSelector::Name(name("web.0"))),
        ("web.65536", MemberSelector::Name(name("web.65536"))),
        ("a.b.3", MemberSelector::Worker(name("a.b"), 3)),
        ("1.2", MemberSelector::Worker(name("1"), 2)),
        ("v2", MemberSelector::Name(name("v2"))),
    ] {
        let selector: MemberSelector = text.parse().unwrap();
        assert_eq!((&selector, selector.to_string().as_str()), (&expected, text));
    }
    for (text, expected) in [
        ("", "\"\" is not a member: a member is a run, a group, a worker such as web.2, or a pid"),
        ("0", "\"0\" is not a member: a pid is a number from 1 to 2147483647"),
        ("2147483648", "\"2147483648\" is not a member: a pid is a number from 1 to 2147483647"),
        (
            "we b",
            "\"we b\" is not a member: \"we b\": a name has no ' ', only letters, digits, \".\", \
             \"_\" and \"-\"",
        ),
    ] {
        assert_eq!(text.parse::<MemberSelector>().unwrap_err().to_string(), expected);
    }
}

#[test]
fn values_are_below_2_to_the_32() {
    let value = |text: &str| text.parse::<MemberValue>();
    assert_eq!(value("web.2=4294967295").unwrap().value, u32::MAX);
    assert_eq!(value("4130=0").unwrap().to_string(), "4130=0");
    for (text, expected) in [
        ("web=4294967296", "\"web=4294967296\": a value is a number from 0 to 4294967295"),
        ("web=-1", "\"web=-1\": \"-1\" is not a number from 0 to 4294967295"),
        ("web=+1", "\"web=+1\": \"+1\" is not a number from 0 to 4294967295"),
        ("web=", "\"web=\": \"\" is not a number from 0 to 4294967295"),
        ("web=9%", "\"web=9%\": \"9%\" is not a number from 0 to 4294967295"),
        ("web", "\"web\" has no value: MEMBER=NUMBER, such as web=9"),
        (
            "=1",
            "\"\" is not a member: a member is a run, a group, a worker such as web.2, or a pid",
        ),
    ] {
        assert_eq!(value(text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn shares_have_two_decimals() {
    for (text, per_10000, shown) in [
        ("10%", 1_000, "10%"),
        ("10", 1_000, "10%"),
        ("0.5%", 50, "0.5%"),
        ("0.01%", 1, "0.01%"),
        ("99.99%", 9_999, "99.99%"),
        ("1.05%", 105, "1.05%"),
        ("007%", 700, "7%"),
    ] {
        let share: CanaryShare = text.parse().unwrap();
        assert_eq!((share.per_10000, share.to_string().as_str()), (per_10000, shown));
    }
    for text in ["0%", "100%", "0.001%", "-1%", "%", "", "1.%", ".5%", "1e1%", "70000%", "10%%"] {
        let message = text.parse::<CanaryShare>().unwrap_err().to_string();
        assert!(message.contains("from 0.01% to 99.99%"), "{text}: {message}");
    }
}

#[test]
fn rules_are_written_as_the_arguments_of_steer() {
    let mut rules = TrafficRules::new(TrafficPolicy::Weights);
    rules.values = ["web=9", "web.2=0"].map(|text| text.parse().unwrap()).to_vec();
    assert_eq!(rules.to_string(), "weights web=9 web.2=0");
}

#[cfg(feature = "serde")]
#[test]
fn rules_survive_json_and_an_earlier_build() {
    let mut rules = TrafficRules::new(TrafficPolicy::LeastConnections);
    rules.values = ["web=9", "web.2=0", "77=1"].map(|text| text.parse().unwrap()).to_vec();
    rules.canary = Some(CanaryShare { per_10000: 50 });
    let json = serde_json::to_value(&rules).unwrap();
    assert_eq!(json["values"][1], serde_json::json!({ "selector": "web.2", "value": 0 }));
    assert_eq!(serde_json::from_value::<TrafficRules>(json).unwrap(), rules);
    let least = serde_json::json!({ "policy": "two-choices" });
    let expected = TrafficRules::new(TrafficPolicy::TwoChoices);
    assert_eq!(serde_json::from_value::<TrafficRules>(least).unwrap(), expected);
    let wrong =
        serde_json::json!({ "policy": "random", "values": [{ "selector": "", "value": 1 }] });
    assert!(serde_json::from_value::<TrafficRules>(wrong).is_err());
}
