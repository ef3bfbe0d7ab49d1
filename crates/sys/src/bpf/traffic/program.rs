//! What the program of a state depends on.

use sameport_policy::model::Protocol;
use sameport_policy::traffic::model::TrafficPolicy;
use sameport_policy::traffic::plan::TrafficPlan;

/// What a program is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficProgram {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The policy of the plan.
    pub policy: TrafficPolicy,
    /// Whether a datagram of QUIC goes where its connection id says.
    pub connection_ids: bool,
}

impl TrafficProgram {
    /// The program that follows this plan.
    #[must_use]
    pub fn of(plan: &TrafficPlan) -> Self {
        Self { protocol: plan.protocol, policy: plan.policy, connection_ids: plan.connection_ids }
    }
}
