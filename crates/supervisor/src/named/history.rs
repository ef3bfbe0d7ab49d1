//! What remains of a run: its record, and the report about its end.

use std::collections::{BTreeMap, BTreeSet};

use sameport_policy::lifecycle::exit::Exit;
use sameport_policy::lifecycle::{Lifecycle, RunOutcome};
use sameport_policy::stop_signal::StopSignal;
use sameport_sys::run_files::EarlierRun;

use crate::control::client;
use crate::control::counters::RunCounters;
use crate::control::record::{EndedRun, EndedWorker, RunHistory, StartLine};
use crate::control::{RunInfo, RunRecord};
use crate::plan::{NamedOptions, WorkerOutput};
use crate::worker_ends::WorkerEnds;

/// The workers of a run, as far as they are of interest after its end.
pub(super) fn of_run(
    output: &WorkerOutput,
    lifecycle: &Lifecycle,
    ends: &WorkerEnds,
) -> RunHistory {
    let worker = |(ordinal, restarts, addresses): (u16, u32, &BTreeSet<String>)| {
        let end = ends.last(ordinal);
        EndedWorker {
            ordinal,
            restarts,
            last_end: end.map(|end| end.how.clone()),
            last_end_at: end.map(|end| end.at),
            addresses: addresses.iter().cloned().collect(),
            output: ends.output(ordinal).to_vec(),
        }
    };
    RunHistory {
        log: output.log_file().map(Into::into),
        workers: lifecycle.workers().map(worker).collect(),
        counters: RunCounters::default(),
    }
}

/// The cause of the end of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunEnd {
    pub(super) outcome: Option<RunOutcome>,
    /// Whether a request asked the run to stop.
    pub(super) requested: bool,
    /// The signal that asked the run to stop.
    pub(super) signal: Option<i32>,
}

impl RunEnd {
    /// The exit code of the supervisor.
    pub(super) fn exit_code(self) -> u8 {
        match self.outcome {
            Some(RunOutcome::GivenUp(exit)) => exit.code().max(1),
            Some(RunOutcome::Stopped) | None => 0,
        }
    }

    /// The report for `status`.
    pub(super) fn report(
        self,
        info: &RunInfo,
        options: &NamedOptions,
        copies: u16,
        history: RunHistory,
    ) -> EndedRun {
        let directory = options.directory.clone().into();
        EndedRun {
            pid: std::process::id().cast_signed(),
            info: info.clone(),
            ended: client::now(),
            why: self.why(&history),
            exit_code: self.exit_code(),
            history,
            start_line: StartLine::of(info, &options.arguments, &directory, copies),
        }
    }

    fn why(self, history: &RunHistory) -> String {
        match (self.outcome, self.signal) {
            (Some(RunOutcome::GivenUp(exit)), _) => gave_up(exit, history),
            (_, _) if self.requested => "stopped by `sameport stop`".to_owned(),
            (_, Some(number)) => match number.to_string().parse::<StopSignal>() {
                Ok(signal) => format!("stopped by {signal}"),
                Err(_) => format!("stopped by signal {number}"),
            },
            (_, None) => "stopped".to_owned(),
        }
    }
}

/// The reason of the last worker; its exit if the reason is not known.
fn gave_up(exit: Exit, history: &RunHistory) -> String {
    let last = history.workers.iter().max_by_key(|worker| worker.last_end_at);
    let how = last.and_then(|worker| worker.last_end.clone());
    let how = how.unwrap_or_else(|| exit.to_string());
    format!("every worker was given up (--max-restarts), the last one: {how}")
}

/// The addresses of each worker of an earlier run, if it had the same command in the same directory.
pub(super) fn addresses_of(
    earlier: &EarlierRun,
    info: &RunInfo,
) -> BTreeMap<u16, BTreeSet<String>> {
    let record = earlier.record.as_deref().and_then(|it| serde_json::from_slice(it).ok());
    let ended = || earlier.ended.as_deref().and_then(|it| serde_json::from_slice(it).ok());
    let of_record = |RunRecord { info, history, .. }: RunRecord| (info, history);
    let of_ended = |EndedRun { info, history, .. }: EndedRun| (info, history);
    let same = |(earlier, _): &(RunInfo, RunHistory)| {
        (&earlier.command, &earlier.directory) == (&info.command, &info.directory)
    };
    let found = record.map(of_record).or_else(|| ended().map(of_ended)).filter(same);
    let workers = found.map(|(_, history)| history.workers).unwrap_or_default();
    let addresses = |it: EndedWorker| (it.ordinal, it.addresses.into_iter().collect());
    workers.into_iter().map(addresses).collect()
}
