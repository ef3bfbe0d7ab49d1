//! The output of `status` for a run that has ended, or whose supervisor was killed.

use serde::Serialize;

use super::json::object;
use super::shell::os_command;
use super::table::table;
use super::text::{age, cell_list, elapsed, printable};
use crate::error::{Failure, client_failure};
use sameport_policy::model::name::RunName;
use sameport_supervisor::control::client::ClientError;
use sameport_supervisor::control::{EndedRun, EndedWorker, RunHistory, RunInfo};

/// Addresses in one cell.
const LISTED: usize = 4;

/// The report about the run, as text; empty without a report.
pub(crate) fn text(name: &RunName, error: &ClientError, width: Option<usize>, now: u64) -> String {
    let listed = if width.is_some() { LISTED } else { usize::MAX };
    let Some((info, history)) = run_of(error) else { return String::new() };
    let mut text = match error.cause() {
        ClientError::Ended(ended) => format!(
            "{name}: ended {} ago, after {}: {}; exit code {}\n",
            age(elapsed(ended.ended, now)),
            age(elapsed(info.since, ended.ended)),
            printable(&ended.why),
            ended.exit_code,
        ),
        _ => format!(
            "{name}: the supervisor was killed; started {} ago\n",
            age(elapsed(info.since, now))
        ),
    };
    text.push_str(&format!(
        "command: {}\ndirectory: {}\n",
        os_command(&info.command),
        printable(&info.directory.to_string_lossy()),
    ));
    if let Some(log) = &history.log {
        text.push_str(&format!("log: {}\n", printable(&log.to_string_lossy())));
    }
    if !history.workers.is_empty() {
        let header = ["WORKER", "RESTARTS", "ENDED", "HOW", "ADDRESS"];
        let rows: Vec<_> = history.workers.iter().map(|worker| row(worker, listed, now)).collect();
        text.push('\n');
        text.push_str(&table(header, &rows));
    }
    for worker in history.workers.iter().filter(|worker| !worker.output.is_empty()) {
        text.push_str(&format!("\nlast output of worker {}:\n", worker.ordinal));
        worker.output.iter().for_each(|line| text.push_str(&format!("  | {}\n", printable(line))));
    }
    text
}

fn run_of(error: &ClientError) -> Option<(&RunInfo, &RunHistory)> {
    match error.cause() {
        ClientError::Ended(ended) => Some((&ended.info, &ended.history)),
        ClientError::SupervisorDead(dead) => {
            dead.record.as_ref().map(|record| (&record.info, &record.history))
        }
        _ => None,
    }
}

fn row(worker: &EndedWorker, listed: usize, now: u64) -> [String; 5] {
    let none = || "-".to_owned();
    let addresses = worker.addresses.iter().map(|it| it.strip_prefix("tcp ").unwrap_or(it));
    [
        worker.ordinal.to_string(),
        worker.restarts.to_string(),
        worker.last_end_at.map_or_else(none, |at| format!("{} ago", age(elapsed(at, now)))),
        worker.last_end.as_ref().map_or_else(none, |how| printable(how)),
        cell_list(addresses.map(printable), " ", listed),
    ]
}

/// The error, and what is known of the run: `running` lists the workers that serve without a supervisor.
/// Times are in seconds since 1970.
pub(super) fn view<'a>(
    name: &'a RunName,
    user: &'a str,
    error: &'a ClientError,
) -> impl Serialize + use<'a> {
    let Failure { message, hint, .. } = client_failure(name, error);
    let (report, running) = match error.cause() {
        ClientError::Ended(ended) => (Some(&**ended), &[][..]),
        ClientError::SupervisorDead(dead) => (None, &dead.running_workers[..]),
        _ => (None, &[][..]),
    };
    let run = run_of(error).map(|(info, history)| run_view(info, history));
    object! {
        name: name.as_str(),
        user: user,
        error: message,
        hint: hint,
        running: running,
        ended: report.map(end_view),
        run: run,
    }
}

fn end_view(ended: &EndedRun) -> impl Serialize + '_ {
    object! { at: ended.ended / 1000, why: &ended.why, exit_code: ended.exit_code, pid: ended.pid }
}

fn run_view<'a>(info: &'a RunInfo, history: &'a RunHistory) -> impl Serialize + use<'a> {
    let command: Vec<_> = info.command.iter().map(|word| word.to_string_lossy()).collect();
    let workers: Vec<_> = history.workers.iter().map(worker_view).collect();
    object! {
        since: info.since / 1000,
        command: command,
        directory: info.directory.to_string_lossy(),
        log: history.log.as_ref().map(|log| log.to_string_lossy()),
        workers: workers,
    }
}

fn worker_view(worker: &EndedWorker) -> impl Serialize + '_ {
    object! {
        worker: worker.ordinal,
        restarts: worker.restarts,
        last_exit: &worker.last_end,
        last_exit_at: worker.last_end_at.map(|at| at / 1000),
        addresses: &worker.addresses,
        output: &worker.output,
    }
}

#[cfg(test)]
#[path = "ended_tests.rs"]
mod tests;
