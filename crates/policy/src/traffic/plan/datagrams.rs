//! Plans for UDP: what has no meaning there, and connection ids.

use super::*;
use crate::model::Address;
use crate::traffic::refusal::RefusalCause;

/// Two members on a port of this protocol.
fn facts(protocol: Protocol) -> TrafficFacts {
    let member = |inode| {
        let socket = SocketId { inode, cookie: Some(inode) };
        TrafficMember::new(socket, Address::new(protocol, "0.0.0.0:443".parse().unwrap()))
    };
    TrafficFacts::new(protocol, [1, 2].map(member).to_vec())
}

/// Why these rules are refused, or what the plan says of connection ids.
fn outcome(
    protocol: Protocol,
    policy: TrafficPolicy,
    connection_ids: bool,
    tier: SteeringTier,
) -> Result<bool, TrafficRefusal> {
    let rules = TrafficRules { connection_ids, ..TrafficRules::new(policy) };
    decide(&facts(protocol), &rules, tier).map(|plan| plan.connection_ids)
}

#[test]
fn every_policy_that_counts_connections_is_refused_for_udp() {
    use TrafficPolicy as P;
    for policy in P::ALL {
        let counts = matches!(policy, P::LeastConnections | P::TwoChoices);
        let is_refused = outcome(Protocol::Udp, policy, false, SteeringTier::Extended).is_err();
        assert_eq!(is_refused, counts, "{policy}");
    }
    for tier in [SteeringTier::Classic, SteeringTier::Extended] {
        let policy = P::default_of(tier, Protocol::Udp);
        assert_eq!(outcome(Protocol::Udp, policy, true, tier), Ok(true));
    }
}

#[test]
fn connection_ids_are_of_udp_and_need_a_program_that_reads_them() {
    use SteeringTier::{Classic, Extended};
    use TrafficPolicy::{Hash, Sticky};
    for (protocol, policy, tier, holds) in [
        (Protocol::Udp, Sticky, Extended, true),
        (Protocol::Udp, Sticky, Classic, true),
        (Protocol::Udp, Hash, Extended, false),
        (Protocol::Tcp, Sticky, Extended, false),
    ] {
        let outcome = outcome(protocol, policy, true, tier);
        assert_eq!(outcome.is_ok(), holds, "{protocol:?} {policy} {tier}: {outcome:?}");
    }
    let mut unordered = facts(Protocol::Udp);
    unordered.order_unknown = Some("another's socket is in the group".into());
    let rules = TrafficRules { connection_ids: true, ..TrafficRules::new(Sticky) };
    let refusal = decide(&unordered, &rules, Classic).unwrap_err();
    assert_eq!(refusal.cause(), RefusalCause::Means);
    assert!(decide(&unordered, &rules, Extended).is_ok());
}
