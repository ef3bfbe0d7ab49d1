//! Other options for the run: this program is executed again, with other arguments.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use sameport_policy::lifecycle::{CanarySnapshot, RunRequest};

use super::NamedRun;
use super::reexec::{NOT_QUIET, NextProgram};
use crate::control::command;
use crate::control::protocol::{ControlReply, FaultKind, Reconfigure, RunStart, WorkerChoice};
use crate::event::RunEvent;
use crate::handover::{HandoverChange, SupervisorLine};
use crate::next_program;
use crate::traffic::PortKey;
use crate::workers::WorkerCommand;

impl NamedRun<'_> {
    /// Lets other options hold. Returns only on failure, with the reply: on success the next program
    /// answers.
    pub(super) fn reconfigure(&mut self, request: Reconfigure, now: Duration) -> ControlReply {
        let Reconfigure { arguments, directory, environment, workers } = request;
        let before = self.own_line();
        let line = SupervisorLine {
            arguments,
            directory: directory.unwrap_or_else(|| before.directory.clone()),
            environment: changed(&before.environment, environment),
            rules: Vec::new(),
        };
        let snapshot = self.lifecycle.snapshot().filter(|_| self.is_quiet());
        match snapshot.as_ref().map(|snapshot| &snapshot.canary) {
            None => return busy(),
            Some(Some(CanarySnapshot { .. })) if workers != WorkerChoice::Keep => {
                return ControlReply::failed(
                    "the run has a canary",
                    Some("end it first: `sameport upgrade NAME --promote`, or `--rollback`"),
                );
            }
            Some(_) => {}
        }
        if let Some(refusal) = command::directory_refusal(Path::new(&line.directory)) {
            return refusal;
        }
        let program = next_program::program(None);
        if let Err(error) = next_program::check_program(&program) {
            return ControlReply::failed(error, None);
        }
        let detached = self.control.info.detached;
        if let Err(refusal) = next_program::check_line(&program, &line, detached) {
            return refusal;
        }
        let before = (workers != WorkerChoice::Keep).then_some(before);
        let had_rules = self.pool.has_rules();
        let change = Some(HandoverChange { workers, before, undone: None, had_rules });
        match self.replace_program(&NextProgram { program, line, change }, now) {
            (error, _) if error == NOT_QUIET => busy(),
            (error, hint) => ControlReply::failed(error, hint),
        }
    }

    /// Continues a change of the options in the program that was executed for it.
    pub(super) fn continue_change(&mut self, change: HandoverChange, now: Duration) {
        let HandoverChange { workers, before, undone, had_rules } = change;
        if had_rules {
            self.remove_rules();
        }
        self.control.change.before = before;
        self.control.change.undone = undone;
        let command = self.workers.commands.len();
        let request = match workers {
            WorkerChoice::Keep => return,
            WorkerChoice::Replace => RunRequest::Upgrade { command },
            WorkerChoice::Move => RunRequest::Move { command },
        };
        let (words, launch) = (self.plan.command.clone(), self.plan.launch.clone());
        self.workers.commands.push(WorkerCommand { words, launch });
        match self.lifecycle.request(request, now) {
            Ok(actions) => self.execute(actions, now),
            Err(_) => self.control.change.undone = Some("another change is under way".into()),
        }
    }

    /// Removes the rules of ports that have none by the options of this program.
    fn remove_rules(&self) {
        let mut ports: BTreeSet<PortKey> = self.ports().collect();
        for port in self.pool.own_rules().rules {
            ports.remove(&port.port.into());
        }
        for port in ports.into_iter().filter(|port| !self.pool.has_rules_for(*port)) {
            // The kernel's hash always holds.
            let _ = self.pool.set_rules(port, None);
        }
    }

    fn ports(&self) -> impl Iterator<Item = PortKey> {
        self.pool.status().into_iter().map(|status| PortKey::of(&status.address))
    }

    /// Goes back to the options of before, if the new workers did not become ready.
    pub(super) fn undo_change(&mut self, now: Duration) {
        let Some(undone) = self.control.change.undone.clone() else { return };
        let is_over = !self.lifecycle.is_stopping() && self.lifecycle.snapshot().is_some();
        if !is_over || !self.is_quiet() {
            return;
        }
        let Some(line) = self.control.change.before.take() else { return };
        let change = HandoverChange {
            workers: WorkerChoice::Keep,
            before: None,
            undone: Some(undone),
            had_rules: self.pool.has_rules(),
        };
        let program = next_program::program(None);
        let next = NextProgram { program, line, change: Some(change) };
        let (error, _) = self.replace_program(&next, now);
        let error = format!("the options of before do not hold again: {error}");
        self.events.push(RunEvent::NotReplaced { error, hint: "start the run anew" });
    }

    /// What the run was started with.
    pub(super) fn run_start(&self) -> RunStart {
        // Before a worker is ready nothing serves, and the workers that start have the first command.
        let command = self.present_command().or(self.workers.commands.first());
        let launch = command.map(|command| command.launch.clone());
        RunStart {
            arguments: self.options.arguments.clone(),
            directory: self.options.directory.clone().into(),
            environment: launch.unwrap_or_default().environment,
            steered: self.pool.steered(),
            service: self.control.info.service.clone(),
            undone: self.control.change.undone.clone(),
        }
    }
}

/// The variables with these changes.
fn changed(
    variables: &[(OsString, OsString)],
    changes: Vec<(OsString, Option<OsString>)>,
) -> Vec<(OsString, OsString)> {
    let is_same = |(name, _): &&(OsString, OsString)| changes.iter().all(|(it, _)| it != name);
    let mut variables: Vec<_> = variables.iter().filter(is_same).cloned().collect();
    variables.extend(changes.into_iter().filter_map(|(name, value)| Some((name, value?))));
    variables
}

fn busy() -> ControlReply {
    ControlReply::Failed {
        fault: FaultKind::Busy,
        error: NOT_QUIET.into(),
        hint: Some("try again when `sameport status` says that all are ready".into()),
    }
}
