//! `reexec`: replaces the supervisor's program by `exec`; the process and the workers stay.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sameport_policy::lifecycle::{CanarySnapshot, ServingWorker, Snapshot};
use sameport_sys::fd::inherit;
use sameport_sys::process::startup;
use sameport_sys::seccomp::NotifyListener;

use super::NamedRun;
use crate::error::RunError;
use crate::handover;
use crate::handover::{
    HandoverCanary, HandoverChange, HandoverLifecycle, HandoverState, HandoverWorker,
    StartupRecord, SupervisorLine,
};
use crate::interpose::HandoverObstacle;
use crate::next_program;
use crate::status::LEAVES;

/// Why another program cannot take the place of this one now.
pub(super) const NOT_QUIET: &str = "not every worker is ready, or something is under way";

/// The program that takes this one's place.
pub(super) struct NextProgram {
    pub(super) program: PathBuf,
    pub(super) line: SupervisorLine,
    /// The change of the options, if they are others.
    pub(super) change: Option<HandoverChange>,
}

impl NamedRun<'_> {
    /// Executes another program in this process. Returns only on failure, with the error and a hint.
    pub(super) fn reexec(
        &mut self,
        program: Option<OsString>,
        now: Duration,
    ) -> (String, Option<&'static str>) {
        if self.lifecycle.stops_at().is_some() {
            return (LEAVES.0.into(), Some(LEAVES.1));
        }
        let program = next_program::program(program);
        if let Err(error) = next_program::check_program(&program) {
            return (error, Some("name the new one: sameport reexec NAME PROGRAM"));
        }
        self.replace_program(&NextProgram { program, line: self.own_line(), change: None }, now)
    }

    /// How this program was executed.
    pub(super) fn own_line(&self) -> SupervisorLine {
        SupervisorLine {
            arguments: self.options.arguments.clone(),
            directory: self.options.directory.clone().into(),
            environment: self.options.environment.clone(),
            rules: self.pool.own_rules().rules,
        }
    }

    /// Whether nothing is under way that the next program would not know.
    pub(super) fn is_quiet(&self) -> bool {
        self.drains.is_empty() && !self.workers.has_orphans() && !self.readiness.has_commands()
    }

    /// Executes the next program. Returns only on failure, with the error and a hint.
    pub(super) fn replace_program(
        &mut self,
        next: &NextProgram,
        now: Duration,
    ) -> (String, Option<&'static str>) {
        let Some(snapshot) = self.lifecycle.snapshot().filter(|_| self.is_quiet()) else {
            return (
                NOT_QUIET.into(),
                Some("try again when `sameport status` says that all are ready"),
            );
        };
        match self.interposer.stop() {
            Ok(()) => {}
            Err(HandoverObstacle::Kind) => {
                let error =
                    format!("workers reached by {} cannot be passed on", self.interposer.name());
                return (error, Some("use --via seccomp, or start the run anew"));
            }
            Err(HandoverObstacle::AnswerBlocked) => {
                return match self.continue_here() {
                    Ok(()) => (
                        "the answer to a worker's bind is blocked".into(),
                        Some("restart that worker first; the run's own messages name it"),
                    ),
                    Err(error) => (format!("answering cannot be resumed: {error}"), None),
                };
            }
        }
        let error = self.exec(next, snapshot, now);
        let program = next.program.display();
        match self.continue_here() {
            Ok(()) => (format!("{program}: {error}"), None),
            Err(second) => (format!("{program}: {error}; then: {second}"), None),
        }
    }

    fn exec(&self, next: &NextProgram, snapshot: Snapshot, now: Duration) -> io::Error {
        let state = self.handover(snapshot, now).and_then(|mut state| {
            if let Some(change) = &next.change {
                state.traffic.rules.clone_from(&next.line.rules);
                state.lifecycle.change = Some(change.clone());
            }
            state.write()
        });
        let fd = state.and_then(|file| Ok((inherit::keep_on_exec(&file)?, file)));
        let (number, _file) = match fd {
            Ok(passed) => passed,
            Err(error) => return error,
        };
        let mut environment = next.line.environment.clone();
        for name in handover::HANDOVER_FD {
            environment.push((name.into(), number.to_string().into()));
        }
        if let Err(error) = std::env::set_current_dir(&next.line.directory) {
            return error;
        }
        let error = inherit::exec(&next.program, &next.line.arguments, &environment);
        // The directory of before may be gone by now; every path of this program is absolute.
        let _ = std::env::set_current_dir(&self.options.directory);
        error
    }

    /// The state for the next program. The descriptors in it survive `exec`.
    fn handover(&self, snapshot: Snapshot, now: Duration) -> io::Result<HandoverState> {
        let mut listeners = BTreeMap::new();
        for (start, listener) in &self.workers.listeners {
            listeners.insert(*start, inherit::keep_on_exec(listener)?);
        }
        let first = self.workers.first.iter();
        let first = first.map(|(start, first)| (*start, (first.pid, first.detached))).collect();
        let passed = |serving: &[ServingWorker]| -> io::Result<Vec<HandoverWorker>> {
            let mut workers = handover::workers(serving, &first, &listeners)
                .ok_or_else(|| io::Error::other("a worker has no listener"))?;
            for worker in &mut workers {
                worker.restricted = self.pool.is_restricted(worker.start);
            }
            Ok(workers)
        };
        let workers = passed(&snapshot.workers)?;
        let canary = snapshot.canary.as_ref().map(|CanarySnapshot { canary, workers }| {
            io::Result::Ok(HandoverCanary {
                command: canary.command,
                share: canary.share,
                since: canary.since,
                promotes_after: canary.promotes_after,
                workers: passed(workers)?,
            })
        });
        let canary = canary.transpose()?;
        let (sockets, groups) = self.pool.keep_on_exec()?;
        let startup = startup::state();
        Ok(HandoverState {
            version: handover::VERSION,
            info: self.control.info.clone(),
            control: self.control.socket.keep_on_exec()?,
            commands: self.workers.commands.iter().map(|it| it.words.clone()).collect(),
            launches: self.workers.commands.iter().map(|it| (&it.launch).into()).collect(),
            workers,
            sockets,
            groups,
            traffic: self.pool.own_rules(),
            lifecycle: HandoverLifecycle {
                copies: snapshot.copies,
                last_start: snapshot.last_instance,
                self_draining: snapshot.self_draining.into_iter().collect(),
                canary,
                counters: self.control.counters.clone(),
                change: None,
                output: self.workers.output.keep_on_exec()?,
            },
            clock: now,
            startup: StartupRecord {
                blocked: startup.blocked,
                record: startup.record,
                descriptors: startup.descriptors,
            },
        })
    }

    /// Continues after a failed `exec`.
    fn continue_here(&mut self) -> io::Result<()> {
        self.pool.close_on_exec()?;
        self.control.socket.close_on_exec()?;
        self.workers.output.close_on_exec()?;
        self.workers.listeners.values().try_for_each(inherit::close_on_exec)?;
        let failed = |error| match error {
            RunError::System(_, error) => error,
            _ => io::Error::other("the interposer cannot"),
        };
        self.interposer.start(&[], Vec::new(), self.reporter.clone()).map_err(failed)?;
        for (start, listener) in std::mem::take(&mut self.workers.listeners) {
            let ordinal = self.workers.get(start).map_or(0, |first| first.ordinal);
            self.answer(start, ordinal, NotifyListener::new(listener))?;
        }
        Ok(())
    }
}
