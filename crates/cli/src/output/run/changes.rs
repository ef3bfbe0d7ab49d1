//! The progress of a change to a named run.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anstyle::AnsiColor;
use sameport_policy::model::name::RunName;
use sameport_supervisor::control::client::{ClientError, DeadSupervisor};
use sameport_supervisor::control::protocol::{WorkerPhase, WorkerUpdate};

use super::events::pause;
use crate::error::{Failure, VerbResult, client_failure};
use crate::operations::revive::Revived;
use crate::output::json::{line as json_line, object};
use crate::output::text::printable;
use crate::output::{stderr, stdout};

/// Prints each change: a sentence on stderr, or a line of JSON on stdout.
pub(crate) struct RunChanges {
    json: bool,
    is_terminal: bool,
    /// The change on the last line.
    last: Option<WorkerUpdate>,
}

impl RunChanges {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, is_terminal: std::io::stderr().is_terminal(), last: None }
    }

    pub(crate) fn report(&mut self, change: &WorkerUpdate) {
        if self.json {
            print_json(&change_json(change));
            return;
        }
        let is_recount = self.last.as_ref().is_some_and(|last| differ_in_connections(last, change));
        self.last = Some(change.clone());
        match (is_recount, self.is_terminal) {
            (false, _) => stderr::styled(&sentence(change)),
            // Replaces the line before.
            (true, true) => stderr::styled(&format!("\u{1b}[1A\u{1b}[2K{}", sentence(change))),
            // A log does not need every count.
            (true, false) => {}
        }
    }

    /// The change is complete.
    pub(crate) fn done(&self, text: &str) {
        if self.json {
            print_json(&done_json());
        } else {
            stderr::print(text);
        }
    }

    /// The change failed. The caller prints the failure to stderr in any case.
    pub(crate) fn failed(&self, failure: Failure) -> Failure {
        if self.json {
            print_json(&failed_json(&failure));
        }
        failure
    }
}

/// Prints each step of a change that `change` makes, and then its end: `done`, or the failure.
pub(crate) fn print_change(
    name: &RunName,
    json: bool,
    done: &str,
    change: impl FnOnce(&mut dyn FnMut(&WorkerUpdate)) -> Result<(), ClientError>,
) -> VerbResult {
    print_steps(json, done, |on_update| {
        change(on_update).map_err(|error| client_failure(name, &error))
    })
}

/// Prints each step of a change, and then its end.
pub(crate) fn print_steps(
    json: bool,
    done: &str,
    change: impl FnOnce(&mut dyn FnMut(&WorkerUpdate)) -> Result<(), Failure>,
) -> VerbResult {
    let mut changes = RunChanges::new(json);
    match change(&mut |update| changes.report(update)) {
        Ok(()) => {
            changes.done(done);
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => Err(changes.failed(failure)),
    }
}

/// The line about a supervisor that was started again.
pub(crate) fn revived_text(name: &RunName, dead: &DeadSupervisor, revived: &Revived) -> String {
    let before = dead.record.as_ref().map_or(0, |record| record.pid);
    let output = match revived.has_output {
        true => "its output goes where that of its workers goes",
        false => "its output goes to /dev/null",
    };
    let pid = revived.pid;
    format!(
        "the supervisor of {name} (pid {before}) was killed; pid {pid} takes its place, and {output}"
    )
}

/// A closed stdout does not end the change.
fn print_json(line: &str) {
    let _ = stdout::line(line);
}

/// Whether only the number of connections of a draining worker differs.
fn differ_in_connections(one: &WorkerUpdate, other: &WorkerUpdate) -> bool {
    let same = WorkerUpdate {
        at: one.at,
        connections: one.connections,
        in_hand: one.in_hand,
        ..other.clone()
    };
    one.state == WorkerPhase::Draining && *one == same
}

/// `worker 2: pid 33 drains, 12 connections open`.
fn sentence(change: &WorkerUpdate) -> String {
    let process = change.pid.map_or_else(|| "it".to_owned(), |pid| format!("pid {pid}"));
    let pause = pause(change.at, change.next_start);
    let starts_again = match change.next_start {
        Some(_) => format!("crashed and starts again{pause}"),
        None => "starts again later".to_owned(),
    };
    let (color, action) = match change.state {
        WorkerPhase::Starting => (None, "starts"),
        WorkerPhase::Ready => (Some(AnsiColor::Green), "is ready"),
        WorkerPhase::Draining => (Some(AnsiColor::Yellow), "drains"),
        WorkerPhase::Gone => (None, "has ended"),
        WorkerPhase::Waiting => (Some(AnsiColor::Yellow), &*starts_again),
        WorkerPhase::GivenUp => {
            (Some(AnsiColor::Red), "crashed too often and is not started again")
        }
    };
    let style = color.map(AnsiColor::on_default).unwrap_or_default();
    let open = match change.connections {
        None => String::new(),
        Some(1) => ", 1 connection open".to_owned(),
        Some(count) => format!(", {count} connections open"),
    };
    let in_hand = change.in_hand.filter(|_| change.connections.is_some_and(|open| open > 0));
    let in_hand = in_hand.map(|count| format!(", {count} in hand")).unwrap_or_default();
    let why = change.why.as_ref().map(|why| format!(": {}", printable(why)));
    let why = why.unwrap_or_default();
    format!("worker {}: {process} {style}{action}{style:#}{open}{in_hand}{why}", change.worker)
}

/// The word for a phase in tables and JSON.
pub(crate) fn phase_name(phase: WorkerPhase) -> &'static str {
    match phase {
        WorkerPhase::Starting => "starting",
        WorkerPhase::Ready => "ready",
        WorkerPhase::Draining => "draining",
        WorkerPhase::Gone => "gone",
        WorkerPhase::Waiting => "waiting",
        WorkerPhase::GivenUp => "given-up",
    }
}

/// `at_ms` is in milliseconds since 1970.
fn change_json(change: &WorkerUpdate) -> String {
    json_line(&object! {
        event: "change",
        at_ms: change.at,
        worker: change.worker,
        pid: change.pid,
        state: phase_name(change.state),
        why: &change.why,
        connections: change.connections,
        in_hand: change.in_hand,
        next_start_ms: change.next_start,
    })
}

fn done_json() -> String {
    json_line(&object! { event: "done" })
}

fn failed_json(failure: &Failure) -> String {
    json_line(&object! { event: "failed", error: &failure.message, hint: &failure.hint })
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
