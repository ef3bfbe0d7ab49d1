//! The processes of a named run's workers.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::time::Duration;

use sameport_policy::lifecycle::InstanceId;
use sameport_sys::process::ForeignProcess;
use sameport_sys::{inspect, process};

use crate::launch::LaunchOptions;
use crate::output::OutputPipes;
use crate::plan::RunPlan;
use crate::pool::SocketPool;
use crate::termination::{SIGKILL, SIGTERM, Termination};
use crate::traffic::RunTraffic;
use crate::traffic::outside::OutsidePorts;
use crate::worker_ends::WorkerEnds;

/// A command of a run, and how it is executed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WorkerCommand {
    /// Program and arguments.
    pub(crate) words: Vec<OsString>,
    pub(crate) launch: LaunchOptions,
}

/// The first process of a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FirstProcess {
    pub(crate) pid: i32,
    pub(crate) ordinal: u16,
    /// Whether it exited with status 0 and left daemons.
    pub(crate) detached: bool,
}

/// Processes that outlived their worker.
#[derive(Debug)]
struct OrphanedProcesses {
    /// The processes at the end of the first one. They may have started more.
    pids: Vec<i32>,
    termination: Termination,
}

#[derive(Debug)]
pub(crate) struct Workers {
    /// The command of the run, and those of upgrades.
    pub(crate) commands: Vec<WorkerCommand>,
    pub(crate) first: BTreeMap<InstanceId, FirstProcess>,
    /// Duplicates of the seccomp listeners, which a `reexec` passes on.
    pub(crate) listeners: BTreeMap<InstanceId, OwnedFd>,
    /// Daemons of workers whose first process has ended.
    daemons: BTreeMap<InstanceId, Vec<i32>>,
    orphans: BTreeMap<InstanceId, OrphanedProcesses>,
    pub(crate) ends: WorkerEnds,
    pub(crate) output: OutputPipes,
    /// The processes of workers that a killed supervisor started, which are not children of this one.
    foreign: BTreeMap<InstanceId, Vec<ForeignProcess>>,
    /// The ports of workers whose sockets the run does not hold, if eBPF can steer them.
    pub(crate) outside: Option<OutsidePorts>,
}

impl Workers {
    pub(crate) fn new(plan: &RunPlan, output: OutputPipes) -> Self {
        let (words, launch) = (plan.command.clone(), plan.launch.clone());
        Self {
            commands: vec![WorkerCommand { words, launch }],
            first: BTreeMap::new(),
            listeners: BTreeMap::new(),
            daemons: BTreeMap::new(),
            orphans: BTreeMap::new(),
            ends: WorkerEnds::new(plan.output.clone()),
            output,
            foreign: BTreeMap::new(),
            outside: RunTraffic::of(plan).ok().and_then(OutsidePorts::of),
        }
    }

    pub(crate) fn get(&self, start: InstanceId) -> Option<FirstProcess> {
        self.first.get(&start).copied()
    }

    /// The worker with this first process.
    pub(crate) fn by_pid(&self, pid: i32) -> Option<(InstanceId, FirstProcess)> {
        let mut workers = self.first.iter();
        // The pid of a first process that was reaped can be another process's.
        workers
            .find(|(_, first)| first.pid == pid && !first.detached)
            .map(|(start, first)| (*start, *first))
    }

    /// The pids of the first processes.
    pub(crate) fn pids(&self) -> BTreeMap<InstanceId, i32> {
        self.first.iter().map(|(start, first)| (*start, first.pid)).collect()
    }

    /// All living processes of a worker.
    pub(crate) fn processes_of(&self, start: InstanceId, pool: &SocketPool) -> Vec<i32> {
        let mut pids = pool.processes().of(start, &pool.own(start));
        for pid in self.daemons.get(&start).into_iter().flatten() {
            if !pids.contains(pid) && process::is_descendant(*pid) {
                pids.push(*pid);
            }
        }
        pids
    }

    /// Daemons that can only be this worker's: its first process has just ended, and they belong to no
    /// other worker. `is_check`: whether a pid is a readiness command.
    pub(crate) fn unclaimed(
        &self,
        start: InstanceId,
        pool: &SocketPool,
        is_check: impl Fn(i32) -> bool,
    ) -> Vec<i32> {
        let snapshot = pool.processes().snapshot();
        let mut pids = snapshot.unattributed().to_vec();
        pids.retain(|pid| {
            let is_first = self.first.values().any(|first| first.pid == *pid);
            let is_daemon = self.daemons.values().any(|daemons| daemons.contains(pid));
            !is_first && !is_daemon && !is_check(*pid)
        });
        if pids.is_empty() {
            return pids;
        }
        for other in self.first.keys().filter(|other| **other != start) {
            let of_other = inspect::holders_of(&pool.own(*other), &pids);
            pids.retain(|pid| !of_other.contains(pid));
        }
        pids
    }

    /// Signals the first process, or the daemons if it has ended.
    pub(crate) fn signal(&self, start: InstanceId, number: i32, pool: &SocketPool) {
        let Some(first) = self.get(start) else { return };
        if let Some(processes) = self.foreign.get(&start) {
            for process in processes {
                // Fails where this process has not the right; the grace period then ends in SIGKILL.
                let _ = process.signal(number);
            }
            return;
        }
        let pids = match first.detached {
            true => self.processes_of(start, pool),
            false => vec![first.pid],
        };
        for pid in pids {
            // A process that ended and is not reaped ignores it.
            let _ = process::signal(pid, number);
        }
    }

    /// Sends SIGKILL to all processes of a worker.
    pub(crate) fn kill(&self, start: InstanceId, pool: &SocketPool) {
        for pid in self.processes_of(start, pool) {
            // The process may have ended.
            let _ = process::signal(pid, SIGKILL);
        }
        self.signal(start, SIGKILL, pool);
    }

    /// Marks a worker whose first process ended while its daemons serve on.
    pub(crate) fn detach(&mut self, start: InstanceId, daemons: Vec<i32>) {
        self.daemons.insert(start, daemons);
        if let Some(first) = self.first.get_mut(&start) {
            first.detached = true;
        }
    }

    /// Ends processes that outlived their worker.
    pub(crate) fn end_orphans(&mut self, start: InstanceId, pids: Vec<i32>, now: Duration) {
        let termination = Termination::new(SIGTERM, now);
        self.orphans.insert(start, OrphanedProcesses { pids, termination });
    }

    pub(crate) fn sweep_orphans(&mut self, pool: &SocketPool, now: Duration) {
        self.orphans.retain(|start, OrphanedProcesses { pids, termination }| {
            if now < termination.next_sweep() {
                return true;
            }
            let mut alive = pool.processes().of(*start, &HashSet::new());
            alive.extend(pids.iter().filter(|pid| process::is_descendant(**pid)));
            let is_left = !alive.is_empty() && termination.sweep_these(&alive, now);
            if !is_left {
                pool.processes().ended(*start);
            }
            is_left
        });
    }

    pub(crate) fn next_sweep(&self) -> Option<Duration> {
        self.orphans.values().map(|orphans| orphans.termination.next_sweep()).min()
    }

    pub(crate) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    /// Adds a worker that a killed supervisor started.
    pub(crate) fn take_over(
        &mut self,
        start: InstanceId,
        ordinal: u16,
        processes: Vec<ForeignProcess>,
        pool: &SocketPool,
    ) {
        let Some(first) = processes.first() else { return };
        let pid = first.pid();
        self.first.insert(start, FirstProcess { pid, ordinal, detached: false });
        pool.processes().taken_over(start, processes.iter().map(ForeignProcess::pid).collect());
        self.foreign.insert(start, processes);
    }

    /// Takes the foreign workers whose processes have all ended. `left`: the processes that a worker
    /// with this first process left in its group; they belong to it.
    pub(crate) fn take_ended_foreign(
        &mut self,
        pool: &SocketPool,
        left: impl Fn(i32) -> Vec<ForeignProcess>,
    ) -> Vec<InstanceId> {
        let mut ended = Vec::new();
        for (start, processes) in &mut self.foreign {
            processes.retain(|process| !process.has_ended());
            if !processes.is_empty() {
                continue;
            }
            *processes = self.first.get(start).map(|first| left(first.pid)).unwrap_or_default();
            match processes.is_empty() {
                true => ended.push(*start),
                false => {
                    let pids = processes.iter().map(ForeignProcess::pid).collect();
                    pool.processes().taken_over(*start, pids);
                }
            }
        }
        self.foreign.retain(|start, _| !ended.contains(start));
        ended
    }

    /// Whether workers of a killed supervisor live.
    pub(crate) fn has_foreign(&self) -> bool {
        !self.foreign.is_empty()
    }

    /// The processes that stand for a worker: its first one, or its daemons.
    pub(crate) fn main_processes(&self, start: InstanceId) -> Vec<i32> {
        if let Some(processes) = self.foreign.get(&start) {
            return processes.iter().map(ForeignProcess::pid).collect();
        }
        match (self.get(start), self.daemons.get(&start)) {
            (Some(first), Some(daemons)) if first.detached => daemons.clone(),
            (first, _) => first.map(|first| first.pid).into_iter().collect(),
        }
    }

    /// Removes a worker that ended.
    pub(crate) fn remove(&mut self, start: InstanceId, pool: &SocketPool) {
        self.first.remove(&start);
        self.listeners.remove(&start);
        // Orphans are found by the process group of the worker.
        if !self.orphans.contains_key(&start) {
            pool.processes().ended(start);
        }
    }

    pub(crate) fn forget_daemons(&mut self, start: InstanceId) {
        self.daemons.remove(&start);
    }
}
