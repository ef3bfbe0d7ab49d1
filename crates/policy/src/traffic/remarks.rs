//! What a user should know about rules that hold.

use std::net::IpAddr;

use super::facts::TrafficFacts;
use super::model::{TrafficPolicy, TrafficRules};
use super::plan::{TrafficPlan, join_sockets};
use super::values;
use crate::model::Address;

/// What a user should know about the plan that [`super::plan::decide`] made of these rules, one line
/// each.
#[must_use]
pub fn remarks(facts: &TrafficFacts, rules: &TrafficRules, plan: &TrafficPlan) -> Vec<String> {
    let mut remarks = vec![];
    for value in values::without_member(&join_sockets(&facts.members), rules) {
        remarks.push(format!("{value} waits: no member is \"{}\"", value.selector));
    }
    if let (Some(share), None) = (rules.canary, plan.canary) {
        remarks
            .push(format!("the canary waits for its {share}: no member of one version is ready"));
    }
    let mut admitted = plan.members.iter().filter(|member| member.admitted).peekable();
    if admitted.peek().is_some() && admitted.all(|member| member.weight == 0) {
        remarks.push("every member has weight 0: the kernel's hash selects among all".to_owned());
    }
    let is_on_loopback = |address: &Address| {
        let ip = address.socket.ip();
        let is_mapped =
            |it: &std::net::Ipv6Addr| it.to_ipv4_mapped().is_some_and(|it| it.is_loopback());
        ip.is_loopback() || ip.is_unspecified() || matches!(ip, IpAddr::V6(it) if is_mapped(&it))
    };
    let places: std::collections::BTreeSet<u32> = plan.places.values().copied().collect();
    match plan.policy {
        TrafficPolicy::Cpu if facts.members.iter().any(|it| is_on_loopback(&it.address)) => {
            let why =
                "on loopback, the processor of the client selects: one client reaches one worker";
            remarks.push(why.to_owned());
        }
        TrafficPolicy::Numa if places.len() == 1 => {
            remarks
                .push("this machine has one NUMA node: each member has an equal part".to_owned());
        }
        _ => {}
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;
    use crate::traffic::facts::{Processor, SocketId, TrafficMember};
    use crate::traffic::model::{CanaryShare, SteeringTier};
    use crate::traffic::plan::decide;

    #[test]
    fn a_user_is_told_what_the_rules_do_not_say() {
        let loopback =
            "on loopback, the processor of the client selects: one client reaches one worker";
        let all_zero = "every member has weight 0: the kernel's hash selects among all";
        for (text, canary, ip, expected) in [
            ("random", None, "0.0.0.0", &[][..]),
            ("weights 10=9", None, "0.0.0.0", &[]),
            ("weights 10=9 web=1", None, "0.0.0.0", &["web=1 waits: no member is \"web\""]),
            ("weights 10=0 11=0", None, "0.0.0.0", &[all_zero]),
            ("cpu", None, "0.0.0.0", &[loopback]),
            ("cpu", None, "[::1]", &[loopback]),
            ("cpu", None, "192.0.2.1", &[]),
            (
                "numa",
                None,
                "192.0.2.1",
                &["this machine has one NUMA node: each member has an equal part"],
            ),
            (
                "random",
                Some(CanaryShare { per_10000: 1_000 }),
                "0.0.0.0",
                &["the canary waits for its 10%: no member of one version is ready"],
            ),
        ] {
            let member = |pid: u16| {
                let address = Address::new(Protocol::Tcp, format!("{ip}:80").parse().unwrap());
                let socket = SocketId { inode: pid.into(), cookie: None };
                TrafficMember { pid: Some(pid.into()), ..TrafficMember::new(socket, address) }
            };
            let mut facts = TrafficFacts::new(Protocol::Tcp, [10, 11].map(member).to_vec());
            facts.processors = [0, 1].map(|number| Processor { number, node: 0 }).to_vec();
            let (policy, values) = text.split_once(' ').unwrap_or((text, ""));
            let values = values.split_whitespace().map(|value| value.parse().unwrap()).collect();
            let rules =
                TrafficRules { values, canary, ..TrafficRules::new(policy.parse().unwrap()) };
            let plan = decide(&facts, &rules, SteeringTier::Extended).unwrap();
            assert_eq!(remarks(&facts, &rules, &plan), expected, "{text} {ip}");
        }
    }
}
