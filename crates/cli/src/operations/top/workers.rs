//! Which worker of a named run has a listener open: found once for each, because it reads `/proc` for each
//! ancestor.

use std::collections::{BTreeMap, HashMap, HashSet};

use sameport_policy::model::Process;
use sameport_policy::top::TopWorker;
use sameport_sys::proc::ancestors;

use super::runs::{SeenRun, SeenWorker};

/// A process and the first process of its worker, if it belongs to one.
type WorkerProcess = Option<(i32, i32)>;

/// Finds workers, with what earlier looks found.
#[derive(Debug, Default)]
pub(super) struct WorkerFinder {
    /// By the first process of the worker.
    workers: BTreeMap<i32, TopWorker>,
    /// By the listener's cookie and the processes that have it open.
    known: HashMap<(u64, Vec<i32>), WorkerProcess>,
    /// The keys of this look.
    used: HashSet<(u64, Vec<i32>)>,
}

impl WorkerFinder {
    /// Begins a look.
    pub(super) fn begin(&mut self, runs: &[SeenRun]) {
        let of_run = |run: &SeenRun, worker: &SeenWorker| TopWorker {
            run: run.name.clone(),
            user: run.user.clone(),
            number: worker.number,
            pid: worker.pid,
            phase: worker.phase,
            restarts: worker.restarts,
        };
        let workers: BTreeMap<i32, TopWorker> = runs
            .iter()
            .flat_map(|run| run.workers.iter().map(move |it| (it.pid, of_run(run, it))))
            .collect();
        // Other first processes: a listener may belong to a worker that was unknown.
        if !workers.keys().eq(self.workers.keys()) {
            self.known.clear();
        }
        self.workers = workers;
        self.used.clear();
    }

    /// The worker that has the listener open. Its pid is that of the process that has it open.
    pub(super) fn find(&mut self, cookie: u64, processes: &[Process]) -> Option<TopWorker> {
        if self.workers.is_empty() {
            return None;
        }
        let key = (cookie, processes.iter().map(|process| process.pid).collect::<Vec<i32>>());
        let found = match self.known.get(&key) {
            Some(found) => *found,
            None => self.climb(&key.1),
        };
        self.known.insert(key.clone(), found);
        self.used.insert(key);
        let (pid, first) = found?;
        self.workers.get(&first).map(|worker| TopWorker { pid, ..worker.clone() })
    }

    fn climb(&self, pids: &[i32]) -> WorkerProcess {
        pids.iter().find_map(|pid| {
            let above = std::iter::once(*pid).chain(ancestors(*pid));
            let first = above.into_iter().find(|it| self.workers.contains_key(it))?;
            Some((*pid, first))
        })
    }

    /// Ends a look: forgets what it did not use.
    pub(super) fn end(&mut self) {
        let used = &self.used;
        self.known.retain(|key, _| used.contains(key));
    }
}
