//! The processes of each start: found by what is in their environment, by their process group, or by
//! the sockets that they have.

use std::collections::{BTreeMap, HashSet};

use sameport_policy::lifecycle::InstanceId;
use sameport_sys::{inspect, process};

/// The name of the variable by which a process is known to be of a start.
pub(crate) const START: &str = "SAMEPORT_START";

/// The name of the variable with the run's name.
pub(crate) const NAME: &str = "SAMEPORT_NAME";

/// Every process that this start has brought forth and that lives. `first`: its first process, whose
/// group the others are in; 0 if that is not known. `own`: the sockets that it and no other start
/// uses, by which a daemon is known that has left its group and its environment behind.
pub(crate) fn of(start: InstanceId, first: i32, own: &HashSet<u64>) -> Vec<i32> {
    let mut found = process::processes_with_env(START, &start.to_string(), first);
    if !own.is_empty() {
        let mut strays = strays();
        strays.retain(|pid| !found.contains(pid));
        found.extend(inspect::holders_of(own, &strays));
    }
    found
}

/// The processes of all these starts, with their first ones, found by one look; daemons that have left
/// their group and their environment are not.
pub(crate) fn all(firsts: &BTreeMap<InstanceId, i32>) -> BTreeMap<InstanceId, Vec<i32>> {
    let starts: Vec<(String, i32)> =
        firsts.iter().map(|(start, first)| (start.to_string(), *first)).collect();
    firsts.keys().copied().zip(process::instance_processes(START, &starts)).collect()
}

/// Processes of which nothing but their sockets may tell whose they are.
pub(crate) fn strays() -> Vec<i32> {
    process::processes_without_env(START)
}
