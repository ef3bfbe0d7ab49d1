//! The processes of each worker, found by the kernel's lists of children.
//!
//! A process belongs to the worker of its parent. An orphan, which has become a child of the
//! supervisor, belongs to the worker whose process group it is in, or else to the one whose descendant it
//! was before, or else to the one that an environment variable names, or else to the one whose sockets it
//! has open. The sessions of sshd leave their process group and clear their environment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sameport_policy::lifecycle::InstanceId;
use sameport_sys::{ProcessIdentity, guarded, inspect, process};

/// The environment variable with the number of the worker's start.
pub(crate) const START: &str = "SAMEPORT_START";

/// The environment variable with the name of the run.
pub(crate) const NAME: &str = "SAMEPORT_NAME";

/// The environment variable with the number of the worker, from 1.
pub(crate) const WORKER: &str = "SAMEPORT_WORKER";

/// Time limit of reading an environment, which is memory of the process.
const READ_LIMIT: Duration = Duration::from_secs(1);

/// What is known of the supervisor's children.
#[derive(Debug, Default)]
pub(crate) struct ProcessTable(Mutex<KnownChildren>);

#[derive(Debug, Default)]
struct KnownChildren {
    /// First processes, which lead the process groups of their workers.
    first: BTreeMap<InstanceId, i32>,
    /// Processes of workers that a killed supervisor started. They are not children of this one.
    foreign: BTreeMap<InstanceId, Vec<i32>>,
    /// First processes that are not reaped.
    living: HashMap<i32, InstanceId>,
    /// Orphans whose environment names their worker, or cannot be read. Each is forgotten when it is
    /// reaped, so that a pid stands for one process.
    orphans: HashMap<i32, Option<InstanceId>>,
    /// Descendants of workers in the last snapshot, which can become orphans.
    descendants: HashMap<i32, (ProcessIdentity, InstanceId)>,
}

/// The processes of all workers at one moment. A process that starts or ends meanwhile can be missing.
#[derive(Debug, Default)]
pub(crate) struct ProcessSnapshot {
    of: BTreeMap<InstanceId, Vec<i32>>,
    /// Descendants that belong to no worker.
    unattributed: Vec<i32>,
}

impl ProcessTable {
    fn known(&self) -> MutexGuard<'_, KnownChildren> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a worker with its first process.
    pub(crate) fn started(&self, start: InstanceId, first: i32) {
        let mut known = self.known();
        // The pid is free only when no process is left in the group of the worker that had it.
        known.first.retain(|_, other| *other != first);
        known.first.insert(start, first);
        known.living.insert(first, start);
    }

    /// Adds a worker of a killed supervisor, or replaces its processes.
    pub(crate) fn taken_over(&self, start: InstanceId, pids: Vec<i32>) {
        let mut known = self.known();
        if let Some(first) = pids.first() {
            known.first.entry(start).or_insert(*first);
        }
        known.living.retain(|_, other| *other != start);
        known.living.extend(pids.iter().map(|pid| (*pid, start)));
        known.foreign.insert(start, pids);
    }

    /// The children of the supervisor, and the processes that it took over.
    fn roots(&self) -> Vec<i32> {
        let mut roots = process::own_children();
        roots.extend(self.known().foreign.values().flatten());
        roots
    }

    /// Removes a worker.
    pub(crate) fn ended(&self, start: InstanceId) {
        let mut known = self.known();
        known.first.remove(&start);
        known.foreign.remove(&start);
        known.living.retain(|_, other| *other != start);
        known.orphans.retain(|_, other| *other != Some(start));
        known.descendants.retain(|_, (_, other)| *other != start);
    }

    /// Forgets a child that has been reaped.
    pub(crate) fn reaped(&self, pid: i32) {
        let mut known = self.known();
        known.living.remove(&pid);
        known.orphans.remove(&pid);
    }

    /// The processes of all workers. Reads the processes of this run once each.
    pub(crate) fn snapshot(&self) -> ProcessSnapshot {
        self.snapshot_below(&self.roots())
    }

    fn snapshot_below(&self, children: &[i32]) -> ProcessSnapshot {
        let owners = self.owners(children);
        let mut snapshot = ProcessSnapshot::default();
        let mut owner_of: HashMap<i32, Option<InstanceId>> = HashMap::new();
        let below = process::descendants_of(children);
        let below = below.into_iter().map(|found| (found.pid, found.parent));
        for (pid, parent) in children.iter().map(|pid| (*pid, 0)).chain(below) {
            let owner = match owners.get(&pid) {
                Some(owner) => *owner,
                None => owner_of.get(&parent).copied().flatten(),
            };
            owner_of.insert(pid, owner);
            match owner {
                Some(start) => snapshot.of.entry(start).or_default().push(pid),
                None => snapshot.unattributed.push(pid),
            }
        }
        owner_of.retain(|pid, _| !owners.contains_key(pid));
        self.remember(&owner_of);
        snapshot
    }

    /// Remembers the workers of these descendants.
    fn remember(&self, owner_of: &HashMap<i32, Option<InstanceId>>) {
        let mut known = self.known();
        known.descendants.retain(|pid, _| owner_of.contains_key(pid));
        for (pid, owner) in owner_of {
            let Some(start) = *owner else { continue };
            let is_known = known.descendants.get(pid).is_some_and(|(_, other)| *other == start);
            if !is_known && let Ok(identity) = ProcessIdentity::of(pid.cast_unsigned()) {
                known.descendants.insert(*pid, (identity, start));
            }
        }
    }

    /// The worker that this process was a descendant of, if it still is the same process.
    fn was_descendant(&self, pid: i32) -> Option<InstanceId> {
        let (identity, start) = self.known().descendants.get(&pid).copied()?;
        let now = ProcessIdentity::of(pid.cast_unsigned()).ok()?;
        (now == identity).then_some(start)
    }

    /// The processes of one worker. `own`: inodes of sockets that no other worker uses; they identify a
    /// daemon that left the process group and cleared its environment.
    pub(crate) fn of(&self, start: InstanceId, own: &HashSet<u64>) -> Vec<i32> {
        self.of_below(&self.roots(), start, own)
    }

    fn of_below(&self, children: &[i32], start: InstanceId, own: &HashSet<u64>) -> Vec<i32> {
        let owners = self.owners(children);
        let with_owner = |owner| {
            let chosen = owners.iter().filter(move |(_, it)| **it == owner);
            chosen.map(|(pid, _)| *pid).collect::<Vec<i32>>()
        };
        let mut found = with_owner(Some(start));
        if !own.is_empty() {
            let mut unattributed = with_owner(None);
            unattributed.extend(below(&unattributed));
            found.extend(inspect::holders_of(own, &unattributed));
        }
        found.extend(below(&found));
        found
    }

    /// The worker of each of these children of the supervisor.
    fn owners(&self, children: &[i32]) -> HashMap<i32, Option<InstanceId>> {
        let mut owners = HashMap::new();
        let mut unknown = Vec::new();
        {
            let known = self.known();
            for pid in children {
                match known.living.get(pid).map(|start| Some(*start)) {
                    Some(owner) => drop(owners.insert(*pid, owner)),
                    None => match known.orphans.get(pid) {
                        Some(owner) => drop(owners.insert(*pid, *owner)),
                        None => unknown.push(*pid),
                    },
                }
            }
        }
        for pid in unknown {
            owners.insert(pid, self.orphan(pid));
        }
        owners
    }

    /// The worker of an orphan, by its process group and its environment.
    fn orphan(&self, pid: i32) -> Option<InstanceId> {
        let group = process::group_of(pid);
        let of_group = {
            let known = self.known();
            let mut first = known.first.iter();
            first.find(|(_, first)| Some(**first) == group).map(|(start, _)| *start)
        };
        let owner = of_group.or_else(|| self.was_descendant(pid)).map(Some).or_else(|| {
            let read = guarded::within(READ_LIMIT, move || process::env_value(pid, START));
            // `None` is remembered only if the process blocks its own memory: between `fork` and
            // `exec`, an environment can still change.
            let Some(value) = read else { return Some(None) };
            let start = String::from_utf8(value?).ok()?.parse().ok()?;
            Some(Some(start))
        });
        if let Some(owner) = owner {
            self.known().orphans.insert(pid, owner);
        }
        owner.flatten()
    }
}

impl ProcessSnapshot {
    /// The processes of a worker.
    pub(crate) fn of(&self, start: InstanceId) -> &[i32] {
        self.of.get(&start).map_or(&[], Vec::as_slice)
    }

    /// Descendants of the supervisor that belong to no worker.
    pub(crate) fn unattributed(&self) -> &[i32] {
        &self.unattributed
    }
}

/// The processes below these.
fn below(pids: &[i32]) -> Vec<i32> {
    process::descendants_of(pids).into_iter().map(|found| found.pid).collect()
}

#[cfg(test)]
#[path = "processes_tests.rs"]
mod tests;
