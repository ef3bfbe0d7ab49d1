//! The end of workers: drains, and children that outlive their first process.

use std::time::Duration;

use sameport_policy::drain::{DrainMode, DrainWatch};
use sameport_policy::lifecycle::exit::Exit;
use sameport_policy::lifecycle::{InstanceId, WorkerState};

use super::NamedRun;
use crate::control::protocol::WorkerUpdate;
use crate::drain::DrainEvent;
use crate::pool::withdrawn::LIMIT;
use crate::termination::SIGKILL;

impl NamedRun<'_> {
    pub(super) fn drain(&mut self, start: InstanceId, mode: DrainMode, now: Duration) {
        let first = self.workers.get(start).map_or(0, |first| first.pid);
        let settings = &self.options.settings;
        // A program that finishes its work after the signal has the grace period for its queue, too.
        let limit = match mode {
            DrainMode::None => settings.grace,
            // New clients wait for the end of this worker.
            _ if self.pool.is_withdrawn(start) => LIMIT.min(settings.drain_timeout),
            DrainMode::Busy | DrainMode::All => settings.drain_timeout,
        };
        self.drains.begin(start, first, DrainWatch::new(mode, now, limit), &self.pool);
    }

    pub(super) fn attend_drains(&mut self, now: Duration) {
        for event in self.drains.attend(&self.pool, now) {
            let actions = match event {
                DrainEvent::Drained(start) => self.lifecycle.drained(start, now),
                DrainEvent::ChildrenFinished(start) => self.lifecycle.children_finished(start, now),
                DrainEvent::Progress(start, open, in_hand) => {
                    self.report_progress(start, open, in_hand);
                    continue;
                }
            };
            self.execute(actions, now);
        }
    }

    /// Tells the clients how many connections a draining worker has.
    fn report_progress(&self, start: InstanceId, open: usize, in_hand: usize) {
        let Some(first) = self.workers.get(start) else { return };
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let update = WorkerUpdate {
            connections: Some(number(open)),
            in_hand: Some(number(in_hand)),
            ..self.update(first.ordinal, Some(start), WorkerState::Draining)
        };
        self.control.responders.iter().for_each(|client| client.send_update(&update));
    }

    /// Keeps the children of a first process that ended, if they have connections.
    pub(super) fn keep_children(
        &mut self,
        start: InstanceId,
        exit: Exit,
        children: &[i32],
        now: Duration,
    ) -> bool {
        let watch = DrainWatch::new(DrainMode::All, now, self.options.settings.grace);
        if !self.drains.outlived(start, children, watch, &self.pool) {
            return false;
        }
        // A replacement that starts after a crash gets the held sockets, with what waits in them.
        if !self.lifecycle.is_leaving(start) {
            self.pool.ended(start);
            if let Some(first) = self.workers.get(start) {
                let is_canary = self.lifecycle.is_canary(start);
                self.control.counters.crashed(first.ordinal, is_canary, now);
            }
        }
        self.workers.detach(start, children.to_vec());
        let actions = self.lifecycle.outlived(start, exit, now);
        self.execute(actions, now);
        true
    }

    /// Counts the end of a worker, before the lifecycle gets the event.
    pub(super) fn count_end(&mut self, start: InstanceId, ordinal: u16, exit: Exit, now: Duration) {
        let was_told = self.lifecycle.is_leaving(start);
        self.control.counters.ended(exit, was_told);
        if !was_told {
            let is_canary = self.lifecycle.is_canary(start);
            self.control.counters.crashed(ordinal, is_canary, now);
        }
    }

    pub(super) fn drain_ended(&mut self, start: InstanceId, exit: Exit, now: Duration) {
        let was_killed = exit == Exit::Signal(u8::try_from(SIGKILL).unwrap_or_default());
        let ended = self.drains.ended(start, exit, now);
        self.control.counters.cut += u64::try_from(ended.cut).unwrap_or_default();
        if ended.is_proven
            && !was_killed
            && let Some(command) = self.lifecycle.command(start)
        {
            self.lifecycle.learn_self_draining(command);
        }
    }
}
