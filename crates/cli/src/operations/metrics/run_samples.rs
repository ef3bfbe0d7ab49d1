//! Samples of runs and workers, from the status of each supervisor.

use std::collections::BTreeMap;

use sameport_policy::lifecycle::exit::signal_text;
use sameport_policy::metrics::{self, Histogram, MetricSet};
use sameport_supervisor::control::client::RunEntry;
use sameport_supervisor::control::counters::{ChangeCount, RunCounters};
use sameport_supervisor::control::protocol::{RunStatus, WorkerPhase, WorkerStatus};
use sameport_sys::proc::StartTimes;

use crate::operations::run_health::run_facts;

/// Every state of a worker, and its word.
const PHASES: [(WorkerPhase, &str); 6] = [
    (WorkerPhase::Starting, "starting"),
    (WorkerPhase::Ready, "ready"),
    (WorkerPhase::Draining, "draining"),
    (WorkerPhase::Gone, "gone"),
    (WorkerPhase::Waiting, "waiting"),
    (WorkerPhase::GivenUp, "given-up"),
];

/// The most entries of one list of a supervisor that have samples: one of another user may send any number. `-n`
/// and a canary are 2,048 workers, and a replacement doubles them.
const MOST: usize = 4096;

/// The most buckets of a histogram.
const MOST_BUCKETS: usize = 32;

/// The most kinds of ends and of changes.
const MOST_KINDS: usize = 512;

/// Adds the samples of a run.
pub(super) fn add(set: &mut MetricSet, run: &RunEntry, times: StartTimes) {
    let name = run.name.to_string();
    let labels = [&*name, &*run.user];
    let up = if run.answer.is_ok() { 1.0 } else { 0.0 };
    set.gauge(&metrics::RUN_UP, &labels, up);
    let Ok(status) = &run.answer else { return };
    let info = [&*name, &*run.user, &*status.version, &*status.via];
    set.gauge(&metrics::RUN_INFO, &info, 1.0);
    set.gauge(&metrics::RUN_START, &labels, seconds(status.since));
    set.gauge(&metrics::RUN_WORKERS, &labels, f64::from(status.copies));
    let facts = run_facts(status);
    let leaving = if facts.leaving { 1.0 } else { 0.0 };
    set.gauge(&metrics::RUN_LEAVING, &labels, leaving);
    set.gauge(&metrics::RUN_READY, &labels, f64::from(facts.ready));
    add_counters(set, labels, &status.treatment.counters);
    add_workers(set, labels, status, times);
}

fn add_counters(set: &mut MetricSet, run: [&str; 2], counters: &RunCounters) {
    let [name, user] = run;
    set.count(&metrics::RUN_STARTS, &run, counters.starts);
    set.count(&metrics::RUN_REFUSED, &run, counters.refused);
    set.count(&metrics::RUN_CUT, &run, counters.cut);
    for end in counters.ends.iter().take(MOST_KINDS) {
        let code = end.code.map(|code| code.to_string()).unwrap_or_default();
        let signal = end.signal.map(signal_text).unwrap_or_default();
        let requested = if end.requested { "true" } else { "false" };
        set.count(&metrics::RUN_ENDS, &[name, user, &code, &signal, requested], end.count);
    }
    for change in counters.changes.iter().take(MOST_KINDS) {
        let labels = [name, user, &*change.kind];
        set.histogram(&metrics::RUN_CHANGES, &labels, histogram(change));
        set.count(&metrics::RUN_FAILED, &labels, change.failed);
    }
}

fn add_workers(set: &mut MetricSet, run: [&str; 2], status: &RunStatus, times: StartTimes) {
    let [name, user] = run;
    let mut of: BTreeMap<String, Vec<&WorkerStatus>> = BTreeMap::new();
    for worker in status.workers.iter().take(MOST) {
        let word = match worker.canary {
            true => format!("{}-canary", worker.ordinal),
            false => worker.ordinal.to_string(),
        };
        of.entry(word).or_default().push(worker);
    }
    for (worker, processes) in &of {
        let labels = [name, user, &**worker];
        for (phase, word) in PHASES {
            let count = processes.iter().filter(|it| it.state == phase).count();
            set.gauge(&metrics::WORKER_STATE, &[name, user, worker, word], number(count));
        }
        let start = processes.iter().filter_map(|it| times.of(it.pid?)).max();
        if let Some(start) = start {
            set.gauge(&metrics::WORKER_START, &labels, start.as_secs_f64());
        }
        let known = processes.iter().filter_map(|it| it.connections);
        if processes.iter().any(|it| it.connections.is_some()) {
            set.gauge(&metrics::WORKER_CONNECTIONS, &labels, known.map(f64::from).sum());
        }
    }
    for worker in status.workers.iter().take(MOST).filter(|worker| !worker.canary) {
        let labels = [name, user, &worker.ordinal.to_string()];
        // Both processes of a worker that is being replaced are one worker.
        if set.lacks(&metrics::WORKER_RESTARTS, &labels) {
            let counters = &status.treatment.counters;
            let count = counters.restarts.get(&worker.ordinal).copied().unwrap_or_default();
            set.count(&metrics::WORKER_RESTARTS, &labels, count);
        }
    }
}

fn histogram(change: &ChangeCount) -> Histogram {
    let buckets =
        change.buckets.iter().take(MOST_BUCKETS).map(|(bound, count)| (seconds(*bound), *count));
    Histogram { sum: seconds(change.milliseconds), count: change.done, buckets: buckets.collect() }
}

/// Milliseconds as seconds.
fn seconds(milliseconds: u64) -> f64 {
    std::time::Duration::from_millis(milliseconds).as_secs_f64()
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
