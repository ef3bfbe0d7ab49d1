//! The progress of a change to a named run.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use sameport_policy::model::name::RunName;
use sameport_supervisor::control::client::{ClientError, DeadSupervisor};
use sameport_supervisor::control::protocol::{WorkerPhase, WorkerUpdate};

use super::worker_change::colored_sentence;
use crate::error::{Failure, VerbResult, change_goes_on, client_failure};
use crate::operations::revive::{OutputPlace, Revived};
use crate::operations::wait::Completion;
use crate::output::json::{line as json_line, object};
use crate::output::{stderr, stdout};

/// Prints each change: a sentence on stderr, or a line of JSON on stdout.
pub(crate) struct RunChanges {
    json: bool,
    /// Whether a line can be replaced.
    is_terminal: bool,
    /// The last change of each worker that drains. A later one only counts its connections again.
    draining: Vec<WorkerUpdate>,
    /// The change on the last line.
    last: Option<WorkerUpdate>,
}

impl RunChanges {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            is_terminal: std::io::stderr().is_terminal() && !stderr::is_plain(),
            draining: Vec::new(),
            last: None,
        }
    }

    pub(crate) fn report(&mut self, change: &WorkerUpdate) {
        if self.json {
            print_json(&change_json(change));
            return;
        }
        match self.line(change) {
            ChangeLine::New => stderr::styled(&colored_sentence(change)),
            ChangeLine::Again => {
                stderr::styled(&format!("\u{1b}[1A\u{1b}[2K{}", colored_sentence(change)));
            }
            ChangeLine::Omitted => {}
        }
    }

    /// The line of this change, which is the last one from now on.
    fn line(&mut self, change: &WorkerUpdate) -> ChangeLine {
        let is_recount = self.draining.iter().any(|last| differ_in_connections(last, change));
        let is_last = self.last.as_ref().is_some_and(|last| differ_in_connections(last, change));
        self.draining.retain(|last| (last.worker, last.pid) != (change.worker, change.pid));
        if change.state == WorkerPhase::Draining {
            self.draining.push(change.clone());
        }
        let line = match (is_recount, is_last && self.is_terminal) {
            (false, _) => ChangeLine::New,
            (true, true) => ChangeLine::Again,
            // A log does not need every count.
            (true, false) => ChangeLine::Omitted,
        };
        if line != ChangeLine::Omitted {
            self.last = Some(change.clone());
        }
        line
    }

    /// The change is complete.
    pub(crate) fn done(&self, text: &str) {
        if self.json {
            print_json(&done_json());
        } else {
            stderr::print(text);
        }
    }

    /// The change has begun, and more was not waited for.
    fn begun(&self, text: &str) {
        if self.json {
            print_json(&begun_json());
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

/// How a change is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChangeLine {
    New,
    /// In the place of the line before.
    Again,
    Omitted,
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

/// Prints each step of a change, and then how far it has come. `change` names it, such as `the restart of web`.
pub(crate) fn print_until(
    name: &RunName,
    json: bool,
    change: &str,
    done: &str,
    make: impl FnOnce(&mut dyn FnMut(&WorkerUpdate)) -> Result<Completion, Failure>,
) -> VerbResult {
    let mut changes = RunChanges::new(json);
    let failure = match make(&mut |update| changes.report(update)) {
        Ok(Completion::Done) => {
            changes.done(done);
            return Ok(ExitCode::SUCCESS);
        }
        Ok(Completion::Begun) => {
            changes
                .begun(&format!("{change} has begun; `sameport status {name}` shows its progress"));
            return Ok(ExitCode::SUCCESS);
        }
        Ok(Completion::GoesOn(limit)) => change_goes_on(name, change, limit),
        Err(failure) => failure,
    };
    Err(changes.failed(failure))
}

/// The line about a supervisor that was started again.
pub(crate) fn revived_text(name: &RunName, dead: &DeadSupervisor, revived: &Revived) -> String {
    let before = dead.record.as_ref().map_or(0, |record| record.pid);
    let output = match revived.output {
        OutputPlace::OfWorkers => "its output goes where that of its workers goes".to_owned(),
        OutputPlace::Background => format!("`sameport logs {name}` shows its output"),
    };
    let pid = revived.pid();
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
        canary: change.canary,
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

fn begun_json() -> String {
    json_line(&object! { event: "begun" })
}

fn failed_json(failure: &Failure) -> String {
    json_line(&object! { event: "failed", error: &failure.message, hint: &failure.hint })
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
