//! Changes that nothing reports: closed sockets, ended daemons, queues that do not move, listeners of
//! workers whose calls the supervisor does not see.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::lifecycle::exit::Exit;
use sameport_policy::readiness::listen_key;
use sameport_sys::inspect;

use super::{NamedRun, ROUND};
use crate::event::RunEvent;

/// Interval at which the listeners of starting workers are listed.
const INSPECTION: Duration = Duration::from_millis(50);

/// First interval at which a service manager that closes a socket is looked at.
const RELEASE: Duration = Duration::from_millis(5);

impl NamedRun<'_> {
    /// Whether the pool reports each `listen`.
    pub(super) fn learns_of_listeners(&self) -> bool {
        self.options.hold && self.interposer.sees_every_bind()
    }

    /// A worker is about to be ready: what it has closed by now is not the run's. Reports a worker that
    /// has closed everything.
    pub(super) fn settle_listeners(&mut self, start: InstanceId) {
        let before = self.pool.addresses(start);
        // Two inspections must agree.
        self.find_closed_again();
        self.find_closed_again();
        if self.pool.addresses(start).is_empty()
            && let Some(first) = self.workers.get(start)
        {
            let (pid, ordinal) = (first.pid, first.ordinal);
            let closed = before.into_iter();
            let closed = closed.map(|address| RunEvent::Closed { ordinal, pid, address });
            self.events.extend(closed);
        }
    }

    /// The interval at which the sockets of workers are inspected; `None` if there is no reason to.
    pub(super) fn inspection_interval(&self) -> Option<Duration> {
        match self.learns_of_listeners() {
            true => self.pool.next_inspection(),
            false => (!self.lifecycle.starting().is_empty()).then_some(INSPECTION),
        }
    }

    /// Finds sockets that were closed again, or if nothing reports them, the listeners of starting
    /// workers.
    pub(super) fn inspect_listeners(&mut self, now: Duration) {
        let Some(interval) = self.inspection_interval() else { return };
        if now < self.schedule.next_inspection {
            return;
        }
        self.schedule.next_inspection = now + interval;
        if self.learns_of_listeners() {
            let began = Instant::now();
            self.find_closed_again();
            // A worker that opens and closes sockets all the time costs a tenth of the time at most.
            self.schedule.next_inspection = now + interval.max(began.elapsed() * 9);
            return;
        }
        for start in self.lifecycle.starting() {
            // A failure is retried at the next inspection.
            let pids = self.workers.processes_of(start, &self.pool);
            if let Ok(addresses) = inspect::listen_addresses(&pids) {
                for address in self.pool.set_not_held(start, addresses) {
                    self.lifecycle.not_listening(start, &listen_key(&address));
                }
            }
        }
    }

    /// Finds sockets that workers have closed again, on addresses that are not the run's.
    pub(super) fn find_closed_again(&mut self) {
        if !self.learns_of_listeners() {
            return;
        }
        let workers = &self.workers;
        let processes_of = |start| workers.processes_of(start, &self.pool);
        for (start, address) in self.pool.find_closed_again(processes_of) {
            self.lifecycle.not_listening(start, &listen_key(&address));
        }
    }

    pub(super) fn round(&mut self, now: Duration) {
        self.workers.output.attend();
        self.workers.ends.read_output();
        let live = self.lifecycle.serving();
        for address in self.pool.repair() {
            self.events.push(RunEvent::ListensAgain { address });
        }
        // A worker that is given up may finish its connections after it has closed its sockets.
        self.find_closed(&live.union(&self.pool.withdrawn()).copied().collect());
        self.find_ended_daemons(now);
        for (start, waiting) in self.drains.stalled(&live, &self.pool) {
            if let Some(first) = self.workers.get(start) {
                let (pid, ordinal) = (first.pid, first.ordinal);
                self.events.push(RunEvent::NotAccepting { ordinal, pid, waiting });
            }
        }
        self.pool.set_hung(self.drains.not_accepting());
        self.readiness.kill_abandoned();
        // Before the release, which sets a program for the time until the manager has closed a socket.
        self.steer();
        self.report_policy();
        self.serve_left_queue(now);
        self.release_spare(1);
        if self.lifecycle.is_stopping() && self.drains.is_empty() && !self.control.stop_requested {
            self.pool.reopen_for_next_run();
        }
        self.control.manager.flush();
    }

    fn release_spare(&self, rounds: u32) {
        // A process that outlived its worker can have a socket open. Such a socket stays in its group
        // when the pool closes it, and the order of the group would be wrong.
        let is_open_elsewhere = self.workers.has_orphans();
        if self.lifecycle.is_settled() && self.drains.is_empty() && !is_open_elsewhere {
            let is_expected = |address: &_| self.lifecycle.expects_listener(&listen_key(address));
            self.pool.release_spare(rounds, is_expected);
        }
    }

    /// When to look next whether the service manager has closed a spare socket; `None` if none leaves.
    pub(super) fn next_release(&self) -> Option<Duration> {
        (!self.pool.leaving().is_empty()).then_some(self.schedule.next_release)
    }

    /// Continues to close spare sockets as soon as the service manager has closed one.
    pub(super) fn continue_release(&mut self, now: Duration) {
        let before = self.pool.leaving();
        if before.is_empty() || now < self.schedule.next_release {
            return;
        }
        self.release_spare(0);
        let pause = &mut self.schedule.release_pause;
        let is_same = self.pool.leaving() == before;
        *pause = if is_same { (*pause * 2).clamp(RELEASE, ROUND) } else { RELEASE };
        self.schedule.next_release = now + *pause;
    }

    /// Finds sockets that these workers closed.
    fn find_closed(&mut self, workers: &BTreeSet<InstanceId>) {
        let snapshot = self.pool.processes().snapshot();
        for start in workers {
            let Some(first) = self.workers.get(*start) else { continue };
            let pids = match first.detached {
                true => self.workers.processes_of(*start, &self.pool),
                false => snapshot.of(*start).to_vec(),
            };
            // A list without the first process is incomplete.
            if !first.detached && !pids.contains(&first.pid) {
                continue;
            }
            for address in self.pool.find_closed(*start, &pids) {
                if self.lifecycle.expects_listener(&listen_key(&address)) {
                    let (pid, ordinal) = (first.pid, first.ordinal);
                    self.events.push(RunEvent::Closed { ordinal, pid, address });
                }
            }
        }
    }

    pub(super) fn find_ended_daemons(&mut self, now: Duration) {
        for (start, first) in self.workers.first.clone() {
            // A list can miss a process, so two must agree.
            let is_gone = || self.workers.processes_of(start, &self.pool).is_empty();
            if first.detached && is_gone() && is_gone() {
                self.worker_ended(start, Exit::Code(0), now);
            }
        }
    }
}
