//! A named run while it changes, and why it could not be asked.

use std::ffi::OsString;
use std::io::IsTerminal as _;

use anstyle::AnsiColor;
use sameport_policy::model::name::RunName;
use sameport_sys::run_files::ConnectError;
use serde::Serialize;

use super::table::printable;
use super::{json_line, note, shell, stdout};
use crate::error::{ExitKind, Failure, shortened};
use sameport_supervisor::control::client::{ClientError, DeadSupervisor};
use sameport_supervisor::control::protocol::{FaultKind, WorkerPhase, WorkerUpdate};

/// How many names or pids a line has; the rest are counted.
const NAMED: usize = 16;

/// Tells of changes as they come: a line each, on stderr for people, on stdout as JSON for programs.
pub(crate) struct RunChanges {
    json: bool,
    terminal: bool,
    /// The change that was told last.
    last: Option<WorkerUpdate>,
}

impl RunChanges {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, terminal: std::io::stderr().is_terminal(), last: None }
    }

    pub(crate) fn tell(&mut self, change: &WorkerUpdate) {
        if self.json {
            event(&RunChangeEvent::Change(ToldChange::new(change)));
            return;
        }
        let again = self.last.as_ref().is_some_and(|last| differ_in_connections(last, change));
        self.last = Some(change.clone());
        match (again, self.terminal) {
            (false, _) => note::say(&line(change)),
            // In the place of the line before.
            (true, true) => note::say(&format!("\u{1b}[1A\u{1b}[2K{}", line(change))),
            // A log needs no count of every moment.
            (true, false) => {}
        }
    }

    /// All of it is done.
    pub(crate) fn done(&self, text: &str) {
        if self.json {
            event(&RunChangeEvent::Done);
        } else {
            note::say(text);
        }
    }

    /// It was not done, which is told on stderr in any case.
    pub(crate) fn failed(&self, failure: Failure) -> Failure {
        if self.json {
            event(&RunChangeEvent::Failed {
                error: &failure.message,
                hint: failure.hint.as_deref(),
            });
        }
        failure
    }
}

/// Whether the second only says how many connections are left by now.
fn differ_in_connections(one: &WorkerUpdate, other: &WorkerUpdate) -> bool {
    let same = WorkerUpdate { at: one.at, connections: one.connections, ..other.clone() };
    one.state == WorkerPhase::Draining && *one == same
}

/// A change in words: `worker 2: pid 33 drains, 12 connections open`.
fn line(change: &WorkerUpdate) -> String {
    let who = change.pid.map_or_else(|| "it".to_owned(), |pid| format!("pid {pid}"));
    let (color, what) = match change.state {
        WorkerPhase::Starting => (None, "starts"),
        WorkerPhase::Ready => (Some(AnsiColor::Green), "is ready"),
        WorkerPhase::Draining => (Some(AnsiColor::Yellow), "drains"),
        WorkerPhase::Gone => (None, "has ended"),
        WorkerPhase::Waiting => {
            (Some(AnsiColor::Yellow), "crashed, and is started again after a while")
        }
        WorkerPhase::GivenUp => {
            (Some(AnsiColor::Red), "crashed too often, and is not started again")
        }
    };
    let style = color.map(AnsiColor::on_default).unwrap_or_default();
    let open = match change.connections {
        None => String::new(),
        Some(1) => ", 1 connection open".to_owned(),
        Some(count) => format!(", {count} connections open"),
    };
    let why = change.why.as_ref().map(|why| format!(": {}", printable(why)));
    let why = why.unwrap_or_default();
    format!("worker {}: {who} {style}{what}{style:#}{open}{why}", change.worker)
}

/// A state in a word, as the table and JSON have it.
pub(crate) fn state(state: WorkerPhase) -> &'static str {
    match state {
        WorkerPhase::Starting => "starting",
        WorkerPhase::Ready => "ready",
        WorkerPhase::Draining => "draining",
        WorkerPhase::Gone => "gone",
        WorkerPhase::Waiting => "waiting",
        WorkerPhase::GivenUp => "given-up",
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum RunChangeEvent<'a> {
    Change(ToldChange<'a>),
    Done,
    Failed { error: &'a str, hint: Option<&'a str> },
}

#[derive(Serialize)]
struct ToldChange<'a> {
    /// Milliseconds since 1970.
    at_ms: u64,
    worker: u16,
    pid: Option<i32>,
    state: &'static str,
    why: Option<&'a str>,
    connections: Option<u32>,
}

impl<'a> ToldChange<'a> {
    fn new(change: &'a WorkerUpdate) -> Self {
        Self {
            at_ms: change.at,
            worker: change.worker,
            pid: change.pid,
            state: state(change.state),
            why: change.why.as_deref(),
            connections: change.connections,
        }
    }
}

/// A reader who has gone hears no more; what was asked for goes on.
fn event(event: &RunChangeEvent<'_>) {
    let _ = stdout::line(&json(event));
}

/// One line of JSON. Fields and events may be added, none changes its meaning.
fn json(event: &RunChangeEvent<'_>) -> String {
    json_line::line(event)
}

/// Why a supervisor did not do what it was asked.
pub(crate) fn failure(name: &RunName, error: &ClientError) -> Failure {
    let of = format!("the supervisor of {name}");
    let failed = |message: String| Failure::new(ExitKind::CouldNotBeDone, message);
    match error {
        ClientError::NoSuchRun(others) if others.is_empty() => {
            failed(format!("there is no run named {name}, nor any other"))
                .hint(format!("`sameport run --name {name} -- COMMAND` starts one"))
        }
        ClientError::NoSuchRun(others) => failed(format!("there is no run named {name}"))
            .hint(format!("there is {}", some(others.iter().map(RunName::to_string)))),
        ClientError::Gone(gone) => gone_failure(name, gone),
        ClientError::Unreachable(ConnectError::Busy) => failed(format!(
            "{of} does not take another connection"
        ))
        .hint("too many wait already: try again in a few seconds, or see whether it is stopped"),
        ClientError::Unreachable(ConnectError::OtherUser(uid)) => {
            failed(format!("connect: user {uid} listens in the place of {of}"))
        }
        ClientError::Unreachable(ConnectError::System(errno)) => {
            failed(format!("connect to {of}: {errno}"))
        }
        ClientError::Silent(pid) => failed(format!("{of} (pid {pid}) does not answer"))
            .hint(format!("if it was stopped by a signal, `kill -CONT {pid}` lets it go on")),
        ClientError::Ended(pid) => failed(format!("{of} (pid {pid}) ended before it was done"))
            .hint(format!("`sameport status {name}` says what is left")),
        ClientError::TooLong(bytes, most) => {
            Failure::usage(format!("the command has {bytes} bytes, and {of} takes {most} at most"))
                .hint("put what is long into a file, or start the program from a script")
        }
        ClientError::Frame(pid, error) => failed(format!("{of} (pid {pid}): {error}")),
        ClientError::Failed { fault, error, hint } => {
            let kind = match fault {
                FaultKind::Other => ExitKind::CouldNotBeDone,
                FaultKind::NotFound => ExitKind::NotFound,
                FaultKind::NotExecutable => ExitKind::NotExecutable,
            };
            let failure = Failure::new(kind, shortened(&printable(error)));
            match hint {
                Some(hint) => failure.hint(shortened(&printable(hint))),
                None => failure,
            }
        }
    }
}

/// A supervisor that was killed: what it has left, and how to go on.
fn gone_failure(name: &RunName, gone: &DeadSupervisor) -> Failure {
    let failed = |message: String| Failure::new(ExitKind::CouldNotBeDone, message);
    let Some(record) = &gone.record else {
        return failed(format!(
            "the supervisor of {name} is gone, and has left no record of its workers"
        ))
        .hint("`sameport ls` shows who is on its ports");
    };
    let who = format!("the supervisor of {name} (pid {})", record.pid);
    let again = format!("sameport run --name {name} … -- {}", command(&record.about.command));
    match &gone.running[..] {
        [] => failed(format!("{who} is gone, and so are its workers"))
            .hint(format!("start it again: {again}")),
        [pid] => failed(format!(
            "{who} is gone; its worker (pid {pid}) keeps serving, and can bind nothing new"
        ))
        .hint(format!("end it and start it again: kill {pid}; {again}")),
        pids => {
            let pids = || pids.iter().map(i32::to_string);
            failed(format!(
                "{who} is gone; its workers (pids {}) keep serving, and can bind nothing new",
                some(pids())
            ))
            .hint(format!(
                "end them and start it again: kill {}; {again}",
                pids().collect::<Vec<_>>().join(" ")
            ))
        }
    }
}

/// The program to go on with is not one.
pub(crate) fn not_a_program(program: &OsString, fault: FaultKind) -> Failure {
    let program = command(std::slice::from_ref(program));
    match fault {
        FaultKind::NotFound => {
            Failure::new(ExitKind::NotFound, format!("{program}: command not found"))
        }
        FaultKind::NotExecutable | FaultKind::Other => {
            Failure::new(ExitKind::NotExecutable, format!("{program}: cannot be executed"))
        }
    }
    .hint("name a `sameport` that is installed")
}

/// The first few, and how many more.
fn some(words: impl Iterator<Item = String>) -> String {
    let words: Vec<_> = words.collect();
    match words.len().checked_sub(NAMED) {
        None | Some(0) => words.join(", "),
        Some(more) => format!("{} and {more} more", words[..NAMED].join(", ")),
    }
}

/// A command line, for a person and for a shell.
pub(crate) fn command(words: &[OsString]) -> String {
    shell::command(words.iter().map(|word| word.to_string_lossy()))
}

#[cfg(test)]
#[path = "run_changes_tests.rs"]
mod tests;
