//! The output of `status`: named runs as tables and as JSON.

use std::time::Duration;

use serde::Serialize;

use super::canary;
use super::ended;
use super::json::{line, object};
use super::run::changes::phase_name;
use super::run::worker_change::pause;
use super::shell::os_command;
use super::table::{table, table_within};
use super::text::{age, cell_list, elapsed, printable, sentence_list};
use super::traffic;
use sameport_supervisor::control::client::{ClientError, RunEntry};
use sameport_supervisor::control::counters::RunCounters;
use sameport_supervisor::control::protocol::{
    LeavingStatus, ListenStatus, RunStatus, WorkerHistory, WorkerPhase, WorkerStatus,
};

/// Addresses in one cell on a terminal, or reasons in one line.
const LISTED: usize = 4;

/// The limit of a list in a cell: nothing is left out of a pipe.
pub(super) fn listed(width: Option<usize>) -> usize {
    if width.is_some() { LISTED } else { usize::MAX }
}

/// One row a named run; empty without runs. `users`: whether they belong to several.
/// `width`: of the terminal, if it is one. `now`: milliseconds since
/// 1970.
pub(crate) fn list(runs: &[RunEntry], users: bool, width: Option<usize>, now: u64) -> String {
    let user = if users { "USER" } else { "" };
    let header = ["NAME", user, "PID", "WORKERS", "SINCE", "ADDRESS", "COMMAND"];
    let rows: Vec<_> = runs
        .iter()
        .map(|RunEntry { name, user, answer }| {
            let [pid, workers, since, addresses, words] = match answer {
                Ok(status) => [
                    status.pid.to_string(),
                    format!("{}/{}", ready(status), status.copies),
                    age(elapsed(status.since, now)),
                    cell_list(status.addresses.iter().map(|it| &it.address), " ", listed(width)),
                    os_command(&status.command),
                ],
                Err(error) => dead(error),
            };
            [name.to_string(), user.clone(), pid, workers, since, addresses, words]
        })
        .collect();
    if rows.is_empty() { String::new() } else { table_within(width, header, &rows) }
}

/// The row of a supervisor that does not answer.
fn dead(error: &ClientError) -> [String; 5] {
    let none = || "-".to_owned();
    let (pid, workers, what, words) = match error.cause() {
        ClientError::SupervisorDead(gone) => {
            let record = gone.record.as_ref();
            (
                record.map(|record| record.pid),
                Some(gone.running_workers.len().to_string()),
                "gone",
                record.map(|record| os_command(&record.info.command)),
            )
        }
        ClientError::NoAnswer(pid)
        | ClientError::SupervisorEnded(pid)
        | ClientError::Frame(pid, _) => (Some(*pid), None, "silent", None),
        _ => (None, None, "silent", None),
    };
    [
        pid.map_or_else(none, |pid| pid.to_string()),
        workers.unwrap_or_else(none),
        what.to_owned(),
        none(),
        words.unwrap_or_else(none),
    ]
}

/// What a worker finishes before it ends. Empty for a supervisor of an earlier build.
fn drain_line(status: &RunStatus) -> String {
    let Some(drain) = &status.treatment.drain else { return String::new() };
    let itself = match (drain.as_str(), status.treatment.drains_itself) {
        ("busy", true) => ": this command finishes its connections itself after the stop signal",
        _ => "",
    };
    format!("drain: {}{itself}\n", printable(drain))
}

/// `leaving: load balancers hear of it, and the run stops in 4 s`.
fn leaving_line(leaving: &LeavingStatus, now: u64) -> String {
    match leaving.stops_at {
        Some(at) => {
            let left = at.saturating_sub(now).div_ceil(1000);
            format!("leaving: load balancers hear of it, and the run stops in {left} s\n")
        }
        None => "leaving: the run stops\n".to_owned(),
    }
}

/// One run in full. `width`: of the terminal, if it is one. `now`: milliseconds since 1970.
pub(crate) fn text(status: &RunStatus, width: Option<usize>, now: u64) -> String {
    let mut text = format!(
        "{}: pid {}, {} of {} workers ready, since {}, by {}\ncommand: {}\ndirectory: {}\n{}",
        printable(&status.name),
        status.pid,
        ready(status),
        status.copies,
        age(elapsed(status.since, now)),
        printable(&status.via),
        os_command(&status.command),
        printable(&status.directory.to_string_lossy()),
        drain_line(status),
    );
    if let Some(log) = &status.treatment.log {
        text.push_str(&format!("log: {}\n", printable(&log.to_string_lossy())));
    }
    if let Some(leaving) = &status.treatment.leaving {
        text.push_str(&leaving_line(leaving, now));
    }
    if let Some(canary) = &status.treatment.canary {
        text.push_str(&canary::line(canary, now));
    }
    if !status.workers.is_empty() {
        let header = ["WORKER", "PID", "STATE", "SINCE", "RESTARTS", "ADDRESS", "CONNS"];
        let rows: Vec<_> =
            status.workers.iter().map(|it| worker_row(it, listed(width), now)).collect();
        text.push('\n');
        text.push_str(&table(header, &rows));
    }
    if !status.addresses.is_empty() {
        let header = ["PROTO", "ADDRESS", "SOCKETS", "QUEUE", "HELD", "STEERED"];
        let rows: Vec<_> = status.addresses.iter().map(address_row).collect();
        text.push('\n');
        text.push_str(&table(header, &rows));
    }
    if !status.treatment.traffic.is_empty() {
        text.push('\n');
        text.push_str(&traffic::text(&status.treatment.traffic, width));
    }
    let notes = notes(status, now);
    if !notes.is_empty() {
        text.push('\n');
        for (note, output) in notes {
            text.push_str(&format!("note: {}\n", printable(&note)));
            output.iter().for_each(|line| text.push_str(&format!("  | {}\n", printable(line))));
        }
    }
    text
}

fn worker_row(worker: &WorkerStatus, listed: usize, now: u64) -> [String; 7] {
    let optional = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
    [
        match worker.canary {
            true => format!("{} canary", worker.ordinal),
            false => worker.ordinal.to_string(),
        },
        optional(worker.pid.map(|pid| pid.to_string())),
        phase_name(worker.state).to_owned(),
        age(elapsed(worker.since, now)),
        worker.restarts.to_string(),
        cell_list(&worker.addresses, " ", listed),
        optional(worker.connections.map(|count| count.to_string())),
    ]
}

fn address_row(address: &ListenStatus) -> [String; 6] {
    let yes = |is: &Result<(), String>| if is.is_ok() { "yes" } else { "no" }.to_owned();
    [
        address.protocol.clone(),
        address.address.clone(),
        address.members.to_string(),
        // The queue of UDP has no limit in datagrams.
        match address.backlog {
            0 => address.queue.to_string(),
            backlog => format!("{}/{backlog}", address.queue),
        },
        yes(&address.held),
        yes(&address.steered),
    ]
}

/// One line for monitoring, and whether every worker is ready.
pub(crate) fn check(status: &RunStatus, now: u64) -> (String, bool) {
    let all_ready = ready(status) >= usize::from(status.copies);
    let is_starting = |worker: &&WorkerStatus| {
        !matches!(worker.state, WorkerPhase::Ready | WorkerPhase::Draining)
    };
    let others = status.workers.iter().filter(is_starting);
    let reasons: Vec<String> = others.filter_map(|worker| worker_note(worker, now)).collect();
    let (name, ready, copies) = (printable(&status.name), ready(status), status.copies);
    let mut text = format!("{name}: {ready} of {copies} workers ready");
    if !all_ready && !reasons.is_empty() {
        text.push_str(&format!("; {}", printable(&sentence_list(reasons.iter(), LISTED))));
    }
    text.push('\n');
    (text, all_ready)
}

/// The reasons behind unusual states of workers and addresses, and the remarks of the supervisor.
/// Each with the output of its worker.
fn notes(status: &RunStatus, now: u64) -> Vec<(String, &[String])> {
    let workers = status
        .workers
        .iter()
        .filter_map(|worker| Some((worker_note(worker, now)?, worker.history.output.as_slice())));
    let addresses = status.addresses.iter().flat_map(|it| {
        let not = |what: &str, is: &Result<(), String>| {
            let why = is.as_ref().err()?;
            Some(format!("{} is not {what}: {why}", it.address))
        };
        [not("held", &it.held), not("steered", &it.steered)].into_iter().flatten()
    });
    let others = addresses.chain(status.remarks.iter().cloned());
    workers.chain(others.map(|note| (note, &[][..]))).collect()
}

/// `worker 3: exited with 1; starts again in 7 s`.
fn worker_note(worker: &WorkerStatus, now: u64) -> Option<String> {
    let WorkerHistory { next_start, last_end, last_end_at, .. } = &worker.history;
    let ordinal = worker.ordinal;
    let kind = if worker.canary { "canary" } else { "worker" };
    if let Some(why) = &worker.why {
        let pause = next_start.map(|next| format!("; starts again{}", pause(now, Some(next))));
        return Some(format!("{kind} {ordinal}: {why}{}", pause.unwrap_or_default()));
    }
    let (why, at) = (last_end.as_ref()?, last_end_at.as_ref()?);
    let is_old = worker.state == WorkerPhase::Draining;
    (!is_old).then(|| format!("{kind} {ordinal}: {why} {} ago", age(elapsed(*at, now))))
}

fn ready(status: &RunStatus) -> usize {
    let main = status.workers.iter().filter(|worker| !worker.canary);
    main.filter(|worker| worker.state == WorkerPhase::Ready).count()
}

/// One line of JSON. Version 1: fields may be added, none changes its meaning.
pub(crate) fn list_json(runs: &[RunEntry]) -> String {
    let runs: Vec<_> = runs.iter().map(entry_view).collect();
    line(&object! { version: 1, runs: runs })
}

#[derive(Serialize)]
#[serde(untagged)]
enum Either<A, B> {
    Alive(A),
    Dead(B),
}

/// A run whose supervisor does not answer, and one that has ended, has an error in place of its status.
fn entry_view(RunEntry { name, user, answer }: &RunEntry) -> impl Serialize + '_ {
    match answer {
        Ok(status) => Either::Alive(run_view(status, user)),
        Err(error) => Either::Dead(ended::view(name, user, error)),
    }
}

/// Times are in seconds since 1970; `copies` is the wanted number of workers.
fn run_view<'a>(status: &'a RunStatus, user: &'a str) -> impl Serialize + use<'a> {
    let command: Vec<_> = status.command.iter().map(|word| word.to_string_lossy()).collect();
    let workers: Vec<_> = status.workers.iter().map(worker_view).collect();
    let addresses: Vec<_> = status.addresses.iter().map(address_view).collect();
    object! {
        name: &status.name,
        user: user,
        pid: status.pid,
        sameport: &status.version,
        since: status.since / 1000,
        command: command,
        directory: status.directory.to_string_lossy(),
        via: &status.via,
        copies: status.copies,
        drain: &status.treatment.drain,
        drains_itself: status.treatment.drains_itself,
        workers: workers,
        addresses: addresses,
        remarks: &status.remarks,
        traffic: &status.treatment.traffic,
        counters: counters_view(&status.treatment.counters),
        canary: status.treatment.canary.as_ref().map(canary::view),
        leaving: status.treatment.leaving.is_some(),
        stops_at: status.treatment.leaving.and_then(|it| it.stops_at).map(|at| at / 1000),
        log: status.treatment.log.as_ref().map(|log| log.to_string_lossy()),
    }
}

/// Numbers since the start of the run. A null `code` with a null `signal`: how the worker ended is not known.
fn counters_view(counters: &RunCounters) -> impl Serialize + use<> {
    let ends = counters.ends.iter().map(|end| {
        object! { code: end.code, signal: end.signal, requested: end.requested, count: end.count }
    });
    let seconds = |milliseconds: u64| Duration::from_millis(milliseconds).as_secs_f64();
    let changes = counters.changes.iter().map(|change| {
        object! {
            kind: change.kind.clone(),
            done: change.done,
            failed: change.failed,
            seconds: seconds(change.milliseconds),
        }
    });
    object! {
        starts: counters.starts,
        restarts: counters.restarts.values().sum::<u64>(),
        ends: ends.collect::<Vec<_>>(),
        refused: counters.refused,
        cut: counters.cut,
        changes: changes.collect::<Vec<_>>(),
    }
}

/// `pid` is null without a process, `connections` where they could not be counted.
fn worker_view(worker: &WorkerStatus) -> impl Serialize + '_ {
    object! {
        worker: worker.ordinal,
        canary: worker.canary,
        pid: worker.pid,
        state: phase_name(worker.state),
        since: worker.since / 1000,
        restarts: worker.restarts,
        why: &worker.why,
        next_start: worker.history.next_start.map(|at| at / 1000),
        last_exit: &worker.history.last_end,
        last_exit_at: worker.history.last_end_at.map(|at| at / 1000),
        output: &worker.history.output,
        connections: worker.connections,
        addresses: &worker.addresses,
    }
}

/// `not_held` and `not_steered` are the reasons.
fn address_view(address: &ListenStatus) -> impl Serialize + '_ {
    object! {
        proto: &address.protocol,
        address: &address.address,
        members: address.members,
        queue: address.queue,
        backlog: address.backlog,
        held: address.held.is_ok(),
        not_held: address.held.as_ref().err(),
        steered: address.steered.is_ok(),
        not_steered: address.steered.as_ref().err(),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
