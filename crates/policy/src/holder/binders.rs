//! The processes that bind again when a program starts again.

use super::model::{Holder, HolderFacts, Keeper};
use crate::membership::run_line::binds_for_workers;

/// The processes that bind when the program of this holder starts again, each once, those that serve the
/// socket first. A service manager binds the sockets of a socket unit; a supervisor those of `--map` and
/// `--listen`. A guard that leaves one of them out locks the program out.
#[must_use]
pub fn binders(holder: &Holder, facts: &HolderFacts) -> Vec<i32> {
    let mut pids: Vec<i32> = holder.servers().map(|process| process.pid).collect();
    let binds = |pid: &i32| {
        let details = facts.processes.get(pid).and_then(|it| it.process.details.as_ref());
        details.is_some_and(|details| binds_for_workers(&details.command))
    };
    pids.extend(holder.class.supervisor().filter(binds));
    // A manager that stores the socket of a service never binds it.
    let managers = holder.keepers.iter().filter(|it| matches!(it, Keeper::Manager { .. }));
    pids.extend(managers.map(Keeper::pid).filter(|pid| !holder.is_stored_by(*pid)));
    if pids.is_empty() {
        // The workers of a run that have ended.
        pids.extend(holder.keepers.iter().map(Keeper::pid));
    }
    let mut known = std::collections::BTreeSet::new();
    pids.retain(|pid| known.insert(*pid));
    pids
}
