//! The part of new connections that a plan gives each member.

use super::model::TrafficPolicy;
use super::plan::{PlannedMember, TrafficPlan};

/// The part of new connections of each member of the plan, from 0 to 1. `None` for a policy that follows
/// the load, or the processor.
#[must_use]
pub fn wanted_shares(plan: &TrafficPlan) -> Vec<Option<f64>> {
    use TrafficPolicy as P;
    if matches!(plan.policy, P::LeastConnections | P::TwoChoices | P::Cpu | P::Numa) {
        let share = |member: &PlannedMember| (!member.takes()).then_some(0.0);
        return plan.members.iter().map(share).collect();
    }
    let serves = |member: &PlannedMember, canary: bool| {
        member.takes() && (plan.canary.is_none() || member.canary == canary)
    };
    let first_rank =
        |canary: bool| plan.members.iter().filter(|it| serves(it, canary)).map(|it| it.rank).min();
    let weight = |member: &PlannedMember| {
        let is_first = plan.policy != P::Standby || first_rank(member.canary) == Some(member.rank);
        match serves(member, member.canary) && is_first {
            true => f64::from(member.weight),
            false => 0.0,
        }
    };
    let share = |member: &PlannedMember| {
        let of_class = |it: &&PlannedMember| plan.canary.is_none() || it.canary == member.canary;
        let all: f64 = plan.members.iter().filter(of_class).map(weight).sum();
        let class = match plan.canary.map(|canary| f64::from(canary.per_10000) / 10_000.0) {
            Some(canary) if member.canary => canary,
            Some(canary) => 1.0 - canary,
            None => 1.0,
        };
        if all > 0.0 { class * weight(member) / all } else { 0.0 }
    };
    plan.members.iter().map(share).map(Some).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;
    use crate::traffic::facts::TrafficFacts;
    use crate::traffic::model::{CanaryShare, SteeringTier, TrafficRules};
    use crate::traffic::plan::decide;

    fn member(weight: u32, rank: u8, canary: bool) -> PlannedMember {
        let (pid, place) = (None, None);
        PlannedMember { sockets: vec![], pid, key: 0, weight, rank, canary, admitted: true, place }
    }

    fn plan(policy: TrafficPolicy, members: Vec<PlannedMember>) -> TrafficPlan {
        let facts = TrafficFacts::new(Protocol::Tcp, vec![]);
        let rules = TrafficRules::new(policy);
        let empty = decide(&facts, &rules, SteeringTier::Extended).unwrap();
        TrafficPlan { members, ..empty }
    }

    fn percents(plan: &TrafficPlan) -> Vec<Option<f64>> {
        let round = |share: f64| (share * 1000.0).round() / 10.0;
        wanted_shares(plan).into_iter().map(|share| share.map(round)).collect()
    }

    #[test]
    fn shares_follow_weights_ranks_and_the_canary() {
        use TrafficPolicy as P;
        let weights = vec![member(9, 0, false), member(1, 0, false), member(0, 0, false)];
        assert_eq!(percents(&plan(P::Weights, weights)), [Some(90.0), Some(10.0), Some(0.0)]);

        let mut drained = vec![member(1, 0, false), member(1, 0, false), member(1, 0, false)];
        drained[1].admitted = false;
        let expected = [Some(50.0), Some(0.0), Some(50.0)];
        assert_eq!(percents(&plan(P::Random, drained.clone())), expected);
        assert_eq!(percents(&plan(P::TwoChoices, drained)), [None, Some(0.0), None]);

        let mut ranks = vec![member(1, 0, false), member(1, 1, false), member(1, 1, false)];
        assert_eq!(percents(&plan(P::Standby, ranks.clone())), [Some(100.0), Some(0.0), Some(0.0)]);
        ranks[0].admitted = false;
        assert_eq!(percents(&plan(P::Standby, ranks)), [Some(0.0), Some(50.0), Some(50.0)]);

        let members = vec![member(1, 0, false), member(1, 0, false), member(1, 0, true)];
        let canary = Some(CanaryShare { per_10000: 1000 });
        let canaries = TrafficPlan { canary, ..plan(P::Random, members) };
        assert_eq!(percents(&canaries), [Some(45.0), Some(45.0), Some(10.0)]);

        let none = vec![member(0, 0, false), member(0, 0, false)];
        assert_eq!(percents(&plan(P::Weights, none)), [Some(0.0), Some(0.0)]);
    }
}
