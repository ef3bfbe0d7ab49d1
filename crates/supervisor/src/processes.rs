//! The processes of each worker, found by an environment variable, their process group or their
//! sockets.

use std::collections::{BTreeMap, HashSet};

use sameport_policy::lifecycle::InstanceId;
use sameport_sys::{inspect, process};

/// The environment variable with the number of the worker's start.
pub(crate) const START: &str = "SAMEPORT_START";

/// The environment variable with the name of the run.
pub(crate) const NAME: &str = "SAMEPORT_NAME";

/// The living processes of a worker. `first`: its first process, which leads their process group; 0 if
/// unknown. `own`: inodes of sockets that no other worker uses; they identify a daemon that left the
/// process group and cleared its environment.
pub(crate) fn of(start: InstanceId, first: i32, own: &HashSet<u64>) -> Vec<i32> {
    let mut found = process::processes_with_env(START, &start.to_string(), first);
    if !own.is_empty() {
        let mut unattributed = unattributed();
        unattributed.retain(|pid| !found.contains(pid));
        found.extend(inspect::holders_of(own, &unattributed));
    }
    found
}

/// The processes of all these workers, with one pass over /proc. Daemons that left their process group
/// and cleared their environment are missing.
pub(crate) fn all(firsts: &BTreeMap<InstanceId, i32>) -> BTreeMap<InstanceId, Vec<i32>> {
    let starts: Vec<(String, i32)> =
        firsts.iter().map(|(start, first)| (start.to_string(), *first)).collect();
    firsts.keys().copied().zip(process::instance_processes(START, &starts)).collect()
}

/// Descendants without the environment variable of a worker.
pub(crate) fn unattributed() -> Vec<i32> {
    process::processes_without_env(START)
}
