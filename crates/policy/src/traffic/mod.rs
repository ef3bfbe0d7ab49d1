//! Traffic: which member of a group gets the next connection.
//!
//! [`model`] has the words of a user: policies, selectors, values. [`plan`] decides what holds for the
//! members of a group, as data. A backend makes the kernel follow the plan: [`classic`] with classic
//! BPF, or eBPF programs. [`status`] is what holds, for every verb that prints it.

mod assembly;
pub mod classic;
mod connection_ids;
#[cfg(test)]
mod execution;
pub mod facts;
pub mod model;
pub mod plan;
pub mod refusal;
pub mod remarks;
pub mod shares;
pub mod status;
pub mod steering;
mod values;

pub use classic::{ClassicGroup, NoProgram};
pub use facts::{Processor, SocketId, TrafficFacts, TrafficMember};
pub use model::{
    CanaryShare, MemberSelector, MemberValue, RulesError, SteeringTier, TrafficPolicy, TrafficRules,
};
pub use plan::{Newcomers, PlannedMember, TrafficPlan, check, decide};
pub use refusal::{RefusalCause, TrafficRefusal};
pub use status::{MemberState, MemberTraffic, TrafficStatus};
