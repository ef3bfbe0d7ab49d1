//! The programs that have a port open, and whether a guard lets them bind it again.

use sameport_policy::guard::AllowSpec;
use sameport_policy::guard_rules::{KeptBinder, distinguish};
use sameport_policy::holder::{HolderFacts, binders, classify_all};
use sameport_policy::model::Protocol;
use sameport_supervisor::control::holder_facts;
use sameport_supervisor::guards::record::GuardEntry;
use sameport_sys::bpf::guard;
use sameport_sys::inspect;

use super::model::{Error, GuardEffect, PortHolder};
use crate::operations::runtime_dir::runtime_dir;

/// The effect of these guards on the programs that have their ports open, in this network namespace.
/// `nobody`: they allow no process.
pub(super) fn effect(guards: &[GuardEntry], nobody: bool) -> Result<GuardEffect, Error> {
    let mut effect = GuardEffect { nobody, holders: vec![], would_allow: vec![] };
    let Some(port) = guards.first().map(|guard| guard.port) else { return Ok(effect) };
    let has = |protocol| guards.iter().any(|guard| guard.protocol() == protocol);
    let (tcp, udp) = (has(Protocol::Tcp), has(Protocol::Udp));
    let query = inspect::SocketQuery { tcp, udp, ..inspect::SocketQuery::everything() };
    let query = query.on(port).in_states(inspect::StateFilter::Unconnected).with_details();
    let seen = inspect::list_sockets(&query).map_err(|error| Error::Look(error.to_string()))?;
    let runtime = runtime_dir();
    let facts = holder_facts(&seen.members, runtime.as_deref(), true);
    let found = classify_all(&seen.members, &facts);
    let mut locked_out = Vec::new();
    for (member, holder) in seen.members.iter().zip(found) {
        let binders = binders(&holder, &facts);
        if binders.is_empty() {
            continue;
        }
        let address = member.socket.address.clone();
        let of_protocol: Vec<_> =
            guards.iter().filter(|it| it.protocol() == address.protocol).cloned().collect();
        let allowed = binders.iter().all(|pid| may(pid.cast_unsigned(), &of_protocol));
        if !allowed {
            locked_out.extend(binders.iter().filter_map(|pid| kept(*pid, &facts)));
        }
        effect.holders.push(PortHolder { holder, address, allowed });
    }
    let of = |it: &PortHolder| it.holder.process.as_ref().map(|process| process.pid);
    effect.holders.sort_by(|a, b| (of(a), &a.address).cmp(&(of(b), &b.address)));
    effect.holders.dedup_by(|a, b| of(a).is_some() && (of(a), &a.address) == (of(b), &b.address));
    effect.would_allow = would_allow(&locked_out);
    Ok(effect)
}

fn kept(pid: i32, facts: &HolderFacts) -> Option<KeptBinder> {
    let details = facts.processes.get(&pid)?.process.details.as_ref();
    let executable = details.and_then(|details| details.executable.clone());
    Some(KeptBinder::new(guard::binder(pid).ok()?, executable))
}

/// One rule, or one for each program, where no rule fits all.
fn would_allow(kept: &[KeptBinder]) -> Vec<AllowSpec> {
    if let Some(specs) = distinguish(kept, &[]) {
        return specs;
    }
    let mut specs = Vec::new();
    for one in kept {
        for spec in distinguish(std::slice::from_ref(one), &[]).unwrap_or_default() {
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
    }
    specs
}

/// Whether all of these guards let this process bind. An exited process counts as allowed.
pub(super) fn may(pid: u32, guards: &[GuardEntry]) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    match guard::binder(pid) {
        Ok(binder) => guards.iter().all(|guard| guard.rule().allows(&binder)),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}
