//! The progress of a change to a named run.

use std::io::IsTerminal as _;

use anstyle::AnsiColor;
use sameport_supervisor::control::protocol::{WorkerPhase, WorkerUpdate};
use serde::Serialize;

use crate::error::Failure;
use crate::output::text::printable;
use crate::output::{json, stderr, stdout};

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
            (false, _) => stderr::say(&line(change)),
            // In the place of the line before.
            (true, true) => stderr::say(&format!("\u{1b}[1A\u{1b}[2K{}", line(change))),
            // A log needs no count of every moment.
            (true, false) => {}
        }
    }

    /// All of it is done.
    pub(crate) fn done(&self, text: &str) {
        if self.json {
            event(&RunChangeEvent::Done);
        } else {
            stderr::say(text);
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
    json::line(event)
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
