//! How named runs are, as tables and as JSON.

use std::time::Duration;

use serde::Serialize;

use super::json::line;
use super::run::changes::state;
use super::shell::os_command;
use super::table::table;
use super::text::{age, cell_list, printable};
use crate::error::client_failure;
use sameport_supervisor::control::client::{ClientError, RunEntry};
use sameport_supervisor::control::protocol::{ListenStatus, RunStatus, WorkerPhase, WorkerStatus};

/// Addresses in one cell.
const LISTED: usize = 4;

/// Every named run, one row each; nothing for none. `now`: milliseconds since 1970.
pub(crate) fn list(runs: &[RunEntry], now: u64) -> String {
    let header = ["NAME", "PID", "WORKERS", "SINCE", "ADDRESS", "COMMAND"];
    let rows: Vec<_> = runs
        .iter()
        .map(|(name, answer)| {
            let [pid, workers, since, addresses, words] = match answer {
                Ok(status) => [
                    status.pid.to_string(),
                    format!("{}/{}", ready(status), status.copies),
                    age(elapsed(status.since, now)),
                    cell_list(status.addresses.iter().map(|it| &it.address), " ", LISTED),
                    os_command(&status.command),
                ],
                Err(error) => dead(error),
            };
            [name.to_string(), pid, workers, since, addresses, words]
        })
        .collect();
    if rows.is_empty() { String::new() } else { table(header, &rows) }
}

/// The row of a supervisor that does not say how it is.
fn dead(error: &ClientError) -> [String; 5] {
    let none = || "-".to_owned();
    let (pid, workers, what, words) = match error {
        ClientError::Gone(gone) => {
            let record = gone.record.as_ref();
            (
                record.map(|record| record.pid),
                Some(gone.running.len().to_string()),
                "gone",
                record.map(|record| os_command(&record.about.command)),
            )
        }
        ClientError::Silent(pid) | ClientError::Ended(pid) | ClientError::Frame(pid, _) => {
            (Some(*pid), None, "silent", None)
        }
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

/// One run, with all there is to say. `now`: milliseconds since 1970.
pub(crate) fn text(status: &RunStatus, now: u64) -> String {
    let mut text = format!(
        "{}: pid {}, {} of {} workers ready, since {}, by {}\ncommand: {}\ndirectory: {}\n",
        printable(&status.name),
        status.pid,
        ready(status),
        status.copies,
        age(elapsed(status.since, now)),
        printable(&status.via),
        os_command(&status.command),
        printable(&status.directory.to_string_lossy()),
    );
    if !status.workers.is_empty() {
        let header = ["WORKER", "PID", "STATE", "SINCE", "RESTARTS", "ADDRESS", "CONNS"];
        let rows: Vec<_> = status.workers.iter().map(|it| worker_row(it, now)).collect();
        text.push('\n');
        text.push_str(&table(header, &rows));
    }
    if !status.addresses.is_empty() {
        let header = ["PROTO", "ADDRESS", "SOCKETS", "QUEUE", "HELD", "STEERED"];
        let rows: Vec<_> = status.addresses.iter().map(address_row).collect();
        text.push('\n');
        text.push_str(&table(header, &rows));
    }
    let notes = notes(status);
    if !notes.is_empty() {
        text.push('\n');
        notes.iter().for_each(|note| text.push_str(&format!("note: {}\n", printable(note))));
    }
    text
}

fn worker_row(worker: &WorkerStatus, now: u64) -> [String; 7] {
    let number = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
    [
        worker.ordinal.to_string(),
        number(worker.pid.map(|pid| pid.to_string())),
        state(worker.state).to_owned(),
        age(elapsed(worker.since, now)),
        worker.restarts.to_string(),
        cell_list(&worker.addresses, " ", LISTED),
        number(worker.connections.map(|count| count.to_string())),
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

/// What is not as one may expect: of workers, of addresses, of the run.
fn notes(status: &RunStatus) -> Vec<String> {
    let workers = status.workers.iter().filter_map(|worker| {
        let why = worker.why.as_ref()?;
        Some(format!("worker {}: {why}", worker.ordinal))
    });
    let addresses = status.addresses.iter().flat_map(|it| {
        let not = |what: &str, is: &Result<(), String>| {
            let why = is.as_ref().err()?;
            Some(format!("{} is not {what}: {why}", it.address))
        };
        [not("held", &it.held), not("steered", &it.steered)].into_iter().flatten()
    });
    workers.chain(addresses).chain(status.remarks.iter().cloned()).collect()
}

fn ready(status: &RunStatus) -> usize {
    status.workers.iter().filter(|worker| worker.state == WorkerPhase::Ready).count()
}

/// The clock may have been set back.
fn elapsed(since: u64, now: u64) -> Duration {
    Duration::from_millis(now.saturating_sub(since))
}

/// One line of JSON. Version 1: fields may be added, none changes its meaning.
pub(crate) fn json(status: &RunStatus) -> String {
    #[derive(Serialize)]
    struct Told<'a> {
        version: u32,
        #[serde(flatten)]
        run: ToldRun<'a>,
    }
    line(&Told { version: 1, run: ToldRun::new(status) })
}

/// One line of JSON. Version 1: fields may be added, none changes its meaning.
pub(crate) fn list_json(runs: &[RunEntry]) -> String {
    #[derive(Serialize)]
    struct Told<'a> {
        version: u32,
        runs: Vec<ToldEither<'a>>,
    }
    line(&Told { version: 1, runs: runs.iter().map(ToldEither::new).collect() })
}

#[derive(Serialize)]
#[serde(untagged)]
enum ToldEither<'a> {
    Living(ToldRun<'a>),
    /// Its supervisor does not say how it is.
    Dead {
        name: &'a str,
        error: String,
        hint: Option<String>,
        /// Workers that serve without it.
        running: &'a [i32],
    },
}

impl<'a> ToldEither<'a> {
    fn new((name, answer): &'a RunEntry) -> Self {
        match answer {
            Ok(status) => Self::Living(ToldRun::new(status)),
            Err(error) => {
                let running = match error {
                    ClientError::Gone(gone) => &gone.running[..],
                    _ => &[],
                };
                let told = client_failure(name, error);
                Self::Dead { name: name.as_str(), error: told.message, hint: told.hint, running }
            }
        }
    }
}

#[derive(Serialize)]
struct ToldRun<'a> {
    name: &'a str,
    pid: i32,
    /// The supervisor's version.
    sameport: &'a str,
    /// Seconds since 1970.
    since: u64,
    /// What is not UTF-8 is replaced.
    command: Vec<String>,
    directory: String,
    via: &'a str,
    /// How many workers are wanted.
    copies: u16,
    workers: Vec<ToldWorker<'a>>,
    addresses: Vec<ToldAddress<'a>>,
    remarks: &'a [String],
}

impl<'a> ToldRun<'a> {
    fn new(status: &'a RunStatus) -> Self {
        Self {
            name: &status.name,
            pid: status.pid,
            sameport: &status.version,
            since: status.since / 1000,
            command: status.command.iter().map(|it| it.to_string_lossy().into_owned()).collect(),
            directory: status.directory.to_string_lossy().into_owned(),
            via: &status.via,
            copies: status.copies,
            workers: status.workers.iter().map(ToldWorker::new).collect(),
            addresses: status.addresses.iter().map(ToldAddress::new).collect(),
            remarks: &status.remarks,
        }
    }
}

#[derive(Serialize)]
struct ToldWorker<'a> {
    worker: u16,
    /// Null: none runs.
    pid: Option<i32>,
    state: &'static str,
    /// Seconds since 1970.
    since: u64,
    restarts: u32,
    why: Option<&'a str>,
    /// Null: they could not be counted.
    connections: Option<u32>,
    addresses: &'a [String],
}

impl<'a> ToldWorker<'a> {
    fn new(worker: &'a WorkerStatus) -> Self {
        Self {
            worker: worker.ordinal,
            pid: worker.pid,
            state: state(worker.state),
            since: worker.since / 1000,
            restarts: worker.restarts,
            why: worker.why.as_deref(),
            connections: worker.connections,
            addresses: &worker.addresses,
        }
    }
}

#[derive(Serialize)]
struct ToldAddress<'a> {
    proto: &'a str,
    address: &'a str,
    members: u32,
    queue: u32,
    backlog: u32,
    held: bool,
    /// Why not, if not.
    not_held: Option<&'a str>,
    steered: bool,
    /// Why not, if not.
    not_steered: Option<&'a str>,
}

impl<'a> ToldAddress<'a> {
    fn new(address: &'a ListenStatus) -> Self {
        Self {
            proto: &address.protocol,
            address: &address.address,
            members: address.members,
            queue: address.queue,
            backlog: address.backlog,
            held: address.held.is_ok(),
            not_held: address.held.as_ref().err().map(String::as_str),
            steered: address.steered.is_ok(),
            not_steered: address.steered.as_ref().err().map(String::as_str),
        }
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
