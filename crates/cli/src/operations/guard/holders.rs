//! The processes that have a port open, and whether a guard lets them bind it again.

use sameport_policy::holder::classify_all;
use sameport_policy::model::Protocol;
use sameport_sys::bpf::guard;
use sameport_sys::inspect;

use super::model::{Error, PortHolder};
use super::record::GuardEntry;

/// The processes that have the ports of these guards open, in this network namespace.
pub(super) fn of(guards: &[GuardEntry]) -> Result<Vec<PortHolder>, Error> {
    let Some(port) = guards.first().map(|guard| guard.port) else { return Ok(vec![]) };
    let has = |protocol| guards.iter().any(|guard| guard.protocol() == protocol);
    let (tcp, udp) = (has(Protocol::Tcp), has(Protocol::Udp));
    let query = inspect::SocketQuery { tcp, udp, ..inspect::SocketQuery::everything() };
    let query = query.on(port).in_states(inspect::StateFilter::Unconnected);
    let seen = inspect::list_sockets(&query).map_err(|error| Error::Look(error.to_string()))?;
    let facts = inspect::holder_facts(&seen.members, "sameport", true);
    let mut holders = Vec::new();
    for (holder, member) in classify_all(&seen.members, &facts).into_iter().zip(seen.members) {
        let address = member.socket.address;
        let guard: Vec<_> =
            guards.iter().filter(|it| it.protocol() == address.protocol).cloned().collect();
        let binders = member.processes.into_iter().filter(|it| !holder.is_stored_by(it.pid));
        holders.extend(binders.map(|process| PortHolder {
            allowed: u32::try_from(process.pid).is_ok_and(|pid| may(pid, &guard)),
            pid: process.pid,
            program: process.program,
            address: address.clone(),
        }));
    }
    holders.sort_by(|a, b| (a.pid, &a.address).cmp(&(b.pid, &b.address)));
    holders.dedup();
    Ok(holders)
}

/// Whether all of these guards let this process bind. An exited process counts as allowed.
pub(super) fn may(pid: u32, guards: &[GuardEntry]) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    match guard::binder(pid) {
        Ok(binder) => guards.iter().all(|guard| guard.rule().allows(&binder)),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}
