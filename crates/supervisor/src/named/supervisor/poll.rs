//! What nothing reports is looked for: who listens, who is drained, what was closed, who does not accept.

use std::collections::BTreeSet;
use std::time::Duration;

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::lifecycle::exit::Exit;
use sameport_policy::model::Address;
use sameport_sys::inspect;
use sameport_sys::process;

use super::{FirstProcess, HANDSHAKES, LOOK, ROUNDS_WITHOUT_ACCEPT, Supervisor, named};
use crate::event::RunEvent;
use crate::processes;
use crate::termination::SIGKILL;

impl Supervisor<'_> {
    /// Where no thread of ours hears of it, it is looked for.
    pub(crate) fn look_who_listens(&mut self, now: Duration) {
        if self.hears_of_listeners() || now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        for start in self.life.starting() {
            // What cannot be looked at now may be next time.
            if let Ok(addresses) = inspect::listen_addresses(&self.processes_of(start)) {
                self.held.set_not_held(start, addresses);
            }
        }
    }

    pub(crate) fn hears_of_listeners(&self) -> bool {
        self.named.hold && self.interposer.sees_every_bind()
    }

    pub(crate) fn look_who_is_drained(&mut self, now: Duration) -> Vec<InstanceId> {
        let grace = self.named.settings.grace;
        let mut drained = Vec::new();
        for (start, draining) in &mut self.draining {
            let waited = now.saturating_sub(draining.since);
            let is_empty = match waited < HANDSHAKES {
                true => self.held.is_drained(*start),
                false => self.held.waiting(*start) == 0,
            };
            // Between a handshake's end and the queue there is a moment in which neither shows it.
            if (is_empty && draining.was_empty) || waited >= grace {
                drained.push(*start);
            }
            draining.was_empty = is_empty;
        }
        drained
    }

    /// What it closed was to be listened on.
    pub(crate) fn tell_closed(&mut self, start: InstanceId, closed: BTreeSet<Address>) {
        let Some(FirstProcess { pid, ordinal, .. }) = self.processes.get(&start).copied() else {
            return;
        };
        for address in closed {
            if self.life.expects_listener(&named(&address)) {
                self.untold.push(RunEvent::Closed { ordinal, pid, address });
            }
        }
    }

    /// Looks for what nothing reports.
    pub(crate) fn round(&mut self, now: Duration) {
        let live = self.life.serving();
        let firsts = self.processes.iter().map(|(start, process)| (*start, process.pid)).collect();
        let all = processes::all(&firsts);
        for start in &live {
            let Some(first) = self.processes.get(start) else { continue };
            let pids = match first.detached {
                true => self.processes_of(*start),
                false => all.get(start).cloned().unwrap_or_default(),
            };
            // Without the first there is no telling what else was missed.
            if first.detached || pids.contains(&first.pid) {
                let closed = self.held.find_closed(*start, &pids);
                self.tell_closed(*start, closed);
            }
        }
        for (start, process) in self.processes.clone() {
            // Twice, because a look can miss somebody.
            let is_over = || self.processes_of(start).is_empty();
            if process.detached && is_over() && is_over() {
                self.gone(start, Exit::Code(0), now);
            }
        }
        self.waiting.retain(|start, _| live.contains(start));
        for start in &live {
            let waiting = self.held.waiting(*start);
            let watched = self.waiting.entry(*start).or_default();
            let stuck = waiting > 0 && waiting >= watched.waiting;
            watched.rounds = if stuck { watched.rounds + 1 } else { 0 };
            watched.waiting = waiting;
            if watched.rounds == ROUNDS_WITHOUT_ACCEPT
                && let Some(FirstProcess { pid, ordinal, .. }) = self.processes.get(start)
            {
                let (pid, ordinal) = (*pid, *ordinal);
                self.untold.push(RunEvent::NotAccepting { ordinal, pid, waiting });
            }
        }
        for (pid, _) in self.checks.iter().filter(|(_, answer)| answer.is_closed()) {
            let _ = process::signal(*pid, SIGKILL);
        }
        if self.life.is_settled() && self.draining.is_empty() {
            self.held.release_spare(|address| self.life.expects_listener(&named(address)));
        }
        if self.life.is_stopping() && self.draining.is_empty() && !self.asked_to_stop {
            self.held.reopen_for_next_run();
        }
        self.held.steer(live);
        self.telling.flush();
    }
}
