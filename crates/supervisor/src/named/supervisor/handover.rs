//! Another program in our place: leaving everything to it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use sameport_policy::lifecycle;
use sameport_sys::fd::inherit;
use sameport_sys::process::startup;
use sameport_sys::seccomp::NotifyListener;

use super::Supervisor;
use crate::error::RunError;
use crate::handover;
use crate::handover::HandoverState;

impl Supervisor<'_> {
    /// Executes another program in our place. Comes back only to say why it could not.
    pub(crate) fn reexec(
        &mut self,
        program: Option<OsString>,
        now: Duration,
    ) -> (String, Option<&'static str>) {
        let program = handover::program(program);
        if let Err(error) = handover::refuse_what_is_none(&program) {
            return (error, Some("name the new one: sameport reexec NAME PROGRAM"));
        }
        let quiet = self.draining.is_empty() && self.orphans.is_empty() && self.checks.is_empty();
        let Some(snapshot) = self.life.snapshot().filter(|_| quiet) else {
            let error = "not every worker is ready, or something is under way";
            return (
                error.into(),
                Some("try again when `sameport status` says that all are ready"),
            );
        };
        if !self.interposer.stop() {
            let error =
                format!("workers reached by {} cannot be passed on", self.interposer.name());
            return (error, Some("use --via seccomp, or start the run anew"));
        }
        let error = self.execute(&program, snapshot, now);
        // Back to what was before.
        let stayed = self
            .held
            .stay()
            .and_then(|()| self.door.stay())
            .and_then(|()| Ok(self.listeners.values().try_for_each(inherit::close_on_exec)?))
            .and_then(|()| self.attend_to_all_again());
        match stayed {
            Ok(()) => (format!("{}: {error}", program.display()), None),
            Err(second) => (format!("{}: {error}; then: {second}", program.display()), None),
        }
    }

    pub(crate) fn execute(
        &self,
        program: &Path,
        snapshot: lifecycle::Snapshot,
        now: Duration,
    ) -> io::Error {
        let letter = (|| {
            let processes =
                self.processes.iter().map(|(start, it)| (*start, (it.pid, it.detached))).collect();
            let mut listeners = BTreeMap::new();
            for (start, listener) in &self.listeners {
                listeners.insert(*start, inherit::keep_on_exec(listener)?);
            }
            let workers = handover::workers(&snapshot.workers, &processes, &listeners)
                .ok_or_else(|| io::Error::other("a worker has no listener"))?;
            let (sockets, groups) = self.held.pass()?;
            let inherited = startup::state();
            let letter = HandoverState {
                version: handover::VERSION,
                about: self.about.clone(),
                door: self.door.pass()?,
                commands: self.commands.clone(),
                workers,
                sockets,
                groups,
                copies: snapshot.copies,
                last_start: snapshot.last_instance,
                clock: now,
                blocked: inherited.blocked,
                record: inherited.record,
                descriptors: inherited.descriptors,
            };
            letter.write()
        })();
        let letter = match letter {
            Ok(letter) => letter,
            Err(error) => return error,
        };
        let number = match inherit::keep_on_exec(&letter) {
            Ok(number) => number,
            Err(errno) => return errno.into(),
        };
        let mut environment = self.named.environment.clone();
        environment.push((handover::HANDOVER_FD.into(), number.to_string().into()));
        inherit::exec(program, &self.named.arguments, &environment)
    }

    pub(crate) fn attend_to_all_again(&mut self) -> io::Result<()> {
        let again = |error| match error {
            RunError::System(_, error) => error,
            _ => io::Error::other("the interposer cannot"),
        };
        self.interposer.start(&[], Vec::new(), self.beside.clone()).map_err(again)?;
        for (start, listener) in std::mem::take(&mut self.listeners) {
            self.attend_to(start, NotifyListener::new(listener))?;
        }
        Ok(())
    }
}
