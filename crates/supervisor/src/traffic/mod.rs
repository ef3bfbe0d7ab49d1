//! The policy of a run (`--policy`): which worker gets a new connection, and which tier of the kernel
//! makes it so.
//!
//! `sameport_policy::traffic` decides. Named runs carry a plan out with their held sockets (`pool`);
//! `listens` does it for runs that hold none.

pub(crate) mod extended;
pub(crate) mod listens;
pub(crate) mod others;
pub(crate) mod outside;
mod port_key;
mod record;

use sameport_policy::model::Protocol;
use sameport_policy::model::name::RunName;
use sameport_policy::traffic::classic::NoProgram;
use sameport_policy::traffic::{
    RefusalCause, SteeringTier, TrafficFacts, TrafficPolicy, TrafficRefusal, TrafficRules, decide,
};

use crate::error::{PolicyError, RunError};
use crate::plan::{InterposerChoice, InterposerKind, PolicyChoice, RunPlan};

pub(crate) use port_key::PortKey;
pub use record::TrafficRecord;

/// The policy of a run, and the tier that carries it out.
#[derive(Debug, Clone)]
pub(crate) struct RunTraffic {
    pub(crate) tier: SteeringTier,
    /// The rules of the command line; `None`: each ready worker gets the same, by the kernel's hash.
    tcp: Option<TrafficRules>,
    /// The same for datagrams. `None` also for a policy that has no meaning for them.
    udp: Option<TrafficRules>,
    /// Names of the run, which selectors of members use.
    pub(crate) names: RunNames,
}

/// The names of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunNames {
    pub(crate) run: Option<RunName>,
    pub(crate) group: Option<RunName>,
}

impl RunTraffic {
    /// The policy and the tier of a run. Called before anything is started.
    ///
    /// # Errors
    ///
    /// [`RunError::Policy`] if this process cannot have the policy.
    pub(crate) fn of(plan: &RunPlan) -> Result<Self, RunError> {
        let has_policy = plan.traffic.policy.is_some() || plan.traffic.connection_ids;
        let extended = if has_policy { extended::available() } else { extended::permitted() };
        let tier = match extended {
            Ok(()) => SteeringTier::Extended,
            Err(_) => SteeringTier::Classic,
        };
        let obstacle = order_obstacle(plan, plan.interposer);
        let refused = |protocol, refusal| refused(plan, protocol, refusal);
        let rules = |protocol| {
            let connection_ids = protocol == Protocol::Udp && plan.traffic.connection_ids;
            let policy = match plan.traffic.policy {
                None if !connection_ids => return None,
                None | Some(PolicyChoice::Auto) => TrafficPolicy::default_of(tier, protocol),
                Some(PolicyChoice::Only(policy)) => policy,
            };
            let rules = TrafficRules { connection_ids, ..TrafficRules::new(policy) };
            let tier = tier_for(protocol, tier);
            Some(possible(protocol, &rules, tier, obstacle).map(|()| rules))
        };
        let tcp = rules(Protocol::Tcp).transpose();
        let tcp = tcp.map_err(|refusal| refused(Protocol::Tcp, refusal))?;
        let udp = match rules(Protocol::Udp).transpose() {
            Err(refusal) if plan.traffic.connection_ids => {
                return Err(refused(Protocol::Udp, refusal));
            }
            // A policy for connections leaves datagrams to the kernel's hash.
            udp => udp.ok().flatten(),
        };
        Ok(Self { tier, tcp, udp, names: RunNames::of(plan) })
    }

    /// The same without rules, for a run that goes on whatever holds.
    pub(crate) fn without_rules(plan: &RunPlan) -> Self {
        Self { tier: SteeringTier::Classic, tcp: None, udp: None, names: RunNames::of(plan) }
    }

    /// The rules for the ports of a protocol.
    pub(crate) fn rules(&self, protocol: Protocol) -> Option<&TrafficRules> {
        match protocol {
            Protocol::Tcp => self.tcp.as_ref(),
            Protocol::Udp => self.udp.as_ref(),
        }
    }

    /// Whether this interposer can carry the policy out.
    ///
    /// # Errors
    ///
    /// [`RunError::Policy`].
    pub(crate) fn check_interposer(
        &self,
        plan: &RunPlan,
        kind: InterposerKind,
    ) -> Result<(), RunError> {
        let obstacle = order_obstacle(plan, InterposerChoice::Only(kind));
        let ids = self.udp.as_ref().filter(|rules| rules.connection_ids);
        for (protocol, rules) in [(Protocol::Tcp, self.tcp.as_ref()), (Protocol::Udp, ids)] {
            let Some(rules) = rules else { continue };
            possible(protocol, rules, self.tier_for(protocol), obstacle)
                .map_err(|refusal| refused(plan, protocol, refusal))?;
        }
        Ok(())
    }

    /// The tier that carries the policy of a protocol out.
    pub(crate) fn tier_for(&self, protocol: Protocol) -> SteeringTier {
        tier_for(protocol, self.tier)
    }
}

/// A run steers datagrams with classic BPF: it knows the order of its own sockets, and no event tells a
/// program of the kernel that a datagram socket was bound.
fn tier_for(protocol: Protocol, tier: SteeringTier) -> SteeringTier {
    match protocol {
        Protocol::Tcp => tier,
        Protocol::Udp => SteeringTier::Classic,
    }
}

impl RunNames {
    fn of(plan: &RunPlan) -> Self {
        Self {
            run: plan.named.as_ref().map(|named| named.name.clone()),
            group: plan.scope.group.clone(),
        }
    }
}

/// Whether the tier can follow the rules. `obstacle`: why the order of the members is not known.
fn possible(
    protocol: Protocol,
    rules: &TrafficRules,
    tier: SteeringTier,
    obstacle: Option<&str>,
) -> Result<(), TrafficRefusal> {
    let mut facts = TrafficFacts::new(protocol, Vec::new());
    facts.order_unknown = obstacle.map(str::to_owned);
    decide(&facts, rules, tier).map(drop)
}

fn refused(plan: &RunPlan, protocol: Protocol, refusal: TrafficRefusal) -> RunError {
    // A run steers datagrams with classic BPF only.
    let extended = match protocol {
        Protocol::Tcp if refusal.cause() == RefusalCause::Means => extended::available().err(),
        _ => None,
    };
    let leave_out = match refusal {
        TrafficRefusal::UnknownMembers(..) => order_option(plan),
        _ => None,
    };
    RunError::Policy(Box::new(PolicyError { refusal, extended, leave_out }))
}

/// The option that keeps the supervisor from seeing in which order the sockets listen.
fn order_option(plan: &RunPlan) -> Option<&'static str> {
    match (plan.interposer, &plan.named) {
        (InterposerChoice::Only(InterposerKind::Preload), _) => Some("--via preload"),
        (InterposerChoice::Only(InterposerKind::Cgroup), _) => Some("--via cgroup"),
        (_, Some(named)) if !named.hold => Some("--no-hold"),
        _ => None,
    }
}

/// Why the supervisor does not see in which order the sockets listen.
fn order_obstacle(plan: &RunPlan, interposer: InterposerChoice) -> Option<&'static str> {
    match (interposer, &plan.named) {
        (InterposerChoice::Only(InterposerKind::Preload), _) => {
            Some("with --via preload the order in which the workers listen is not known")
        }
        (InterposerChoice::Only(InterposerKind::Cgroup), _) => {
            Some("with --via cgroup the order in which the workers listen is not known")
        }
        (_, Some(named)) if !named.hold => {
            Some("with --no-hold the order in which the workers listen is not known")
        }
        _ => None,
    }
}

/// Why the members of a group are not selected as the policy says.
pub(crate) fn no_program(why: NoProgram) -> &'static str {
    match why {
        NoProgram::NobodyTakes => "no member may get a connection",
        NoProgram::TooLong => "there are too many members for classic BPF",
        _ => "classic BPF cannot follow the policy",
    }
}
