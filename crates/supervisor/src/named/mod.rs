//! A named run: restarts workers that crash, replaces them on request, and keeps their listening
//! sockets.
//!
//! The lifecycle (`sameport_policy::lifecycle`) decides; this module reports to it what happens and
//! executes its actions.

mod actions;
mod begin;
mod control_endpoint;
mod drains;
mod history;
mod port_wait;
mod reconfigure;
mod reexec;
mod requests;
mod rounds;
mod takeover;
mod traffic;
mod upgrade;

use std::io;
use std::time::{Duration, Instant};

use sameport_policy::lifecycle::exit::Exit;
use sameport_policy::lifecycle::{InstanceId, Lifecycle, RunOutcome, RunRequest};
use sameport_policy::readiness::listen_key;
use sameport_sys::process;
use sameport_sys::process::EndedChild;
use tokio::sync::mpsc::Receiver;

use crate::control::PendingRequest;
use crate::control::protocol::ControlReply;
use crate::drain::Drains;
use crate::event::RunEvent;
use crate::event_loop::{Progress, Supervise};
use crate::held_ports::PortWaits;
use crate::interpose::Interposer;
use crate::launch::LaunchOptions;
use crate::monitor::Monitor;
use crate::output::LAST_OUTPUT;
use crate::plan::{NamedOptions, RunPlan};
use crate::pool::SocketPool;
use crate::readiness::{Readiness, ReadinessEvent};
use crate::report::{Report, Reporter};
use crate::runtime::STOPPING;
use crate::termination::{SIGTERM, Termination};
use crate::traffic::extended;
use crate::traffic::outside::OutsidePorts;
use crate::workers::Workers;
use control_endpoint::ControlEndpoint;
use history::RunEnd;

const SIGHUP: i32 = 1;

/// Interval at which a run looks whether the workers of a killed supervisor have ended: they are not
/// its children.
const ORPHANS: Duration = Duration::from_millis(50);

/// Interval of the search for changes that nothing reports.
const ROUND: Duration = Duration::from_secs(1);

pub(crate) struct NamedRun<'a> {
    plan: &'a RunPlan,
    options: &'a NamedOptions,
    interposer: Box<dyn Interposer>,
    reporter: Reporter,
    lifecycle: Lifecycle,
    pool: SocketPool,
    workers: Workers,
    readiness: Readiness,
    drains: Drains,
    control: ControlEndpoint,
    schedule: Schedule,
    /// Events that the monitor does not have yet.
    events: Vec<RunEvent>,
}

/// The times of periodic work, and the end of the run.
#[derive(Debug, Default)]
struct Schedule {
    next_round: Duration,
    next_inspection: Duration,
    next_release: Duration,
    release_pause: Duration,
    outcome: Option<RunOutcome>,
    ports: PortWaits,
    /// Ends the processes that outlived the run's workers.
    termination: Option<Termination>,
}

/// An event of a named run.
pub(crate) enum NamedInput {
    /// A worker listens on another address.
    Listens,
    Readiness(ReadinessEvent),
    Request(PendingRequest),
}

impl Supervise for NamedRun<'_> {
    type Input = NamedInput;

    async fn input(&mut self) -> NamedInput {
        tokio::select! {
            biased;
            () = self.pool.changed() => NamedInput::Listens,
            event = self.readiness.next() => NamedInput::Readiness(event),
            Some(request) = self.control.requests.recv() => NamedInput::Request(request),
        }
    }

    fn handle(&mut self, input: NamedInput, monitor: &mut Monitor<'_>) {
        let now = monitor.now();
        match input {
            // `attend` takes the addresses from the pool.
            NamedInput::Listens => {}
            NamedInput::Readiness(ReadinessEvent::Ready(start)) => self.ready(start, now),
            NamedInput::Readiness(ReadinessEvent::NotYet(start, why)) => {
                self.lifecycle.not_ready_yet(start, why);
            }
            NamedInput::Readiness(ReadinessEvent::Command(command)) => {
                let launch = self.launch_of(command.pid);
                self.readiness.run_command(command, self.plan.scope.private, &launch);
            }
            NamedInput::Readiness(ReadinessEvent::Notification) => self.take_notified(now),
            NamedInput::Request(request) => self.requested(request, now),
        }
    }

    /// Workers lead process groups of their own, so signals of the terminal do not reach them.
    fn signalled(&mut self, number: i32, _from_terminal: bool, monitor: &mut Monitor<'_>) {
        let now = monitor.now();
        if !STOPPING.contains(&number) {
            for start in self.workers.first.keys() {
                self.workers.signal(*start, number, &self.pool);
            }
            return;
        }
        self.control.stop_signal.get_or_insert(number);
        let actions = match self.lifecycle.is_stopping() {
            true => self.lifecycle.kill(now),
            false => {
                self.lifecycle.request(RunRequest::Stop { now: false }, now).unwrap_or_default()
            }
        };
        self.execute(actions, now);
    }

    /// Stops the run, as the first SIGTERM does. A shell and the kernel may each send a signal, so a second
    /// one hurries nothing.
    fn hung_up(&mut self, from_terminal: bool, monitor: &mut Monitor<'_>) {
        if !self.lifecycle.is_stopping() {
            self.control.stop_signal = Some(SIGHUP);
            self.signalled(SIGTERM, from_terminal, monitor);
        }
    }

    fn reap(&mut self, monitor: &mut Monitor<'_>) -> io::Result<Progress> {
        let now = monitor.now();
        let (ended, _) = process::reap()?;
        monitor.attend_to_the_gone();
        ended.iter().for_each(|child| self.pool.processes().reaped(child.pid));
        // A refused bind explains the end of its worker.
        self.take_refusals(monitor);
        for EndedChild { pid, exit } in ended {
            self.workers.output.child_ended(pid);
            if !self.readiness.command_ended(pid, exit)
                && let Some((start, _)) = self.workers.by_pid(pid)
            {
                self.first_process_ended(start, exit, now);
            }
        }
        if self.drains.has_children() {
            self.find_ended_daemons(now);
        }
        Ok(Progress::Continues)
    }

    fn next_wake(&self, now: Duration) -> Option<Duration> {
        let termination = self.schedule.termination.as_ref().map(Termination::next_sweep);
        let inspects = self.inspection_interval().is_some();
        let times = [
            self.lifecycle.next_deadline(),
            self.drains.next_wake(),
            self.workers.next_sweep(),
            self.next_port_check(),
            termination,
            inspects.then_some(self.schedule.next_inspection),
            self.next_release(),
            self.control.record.next(),
            Some(self.schedule.next_round),
            self.workers.has_foreign().then_some(now + ORPHANS),
        ];
        times.into_iter().flatten().min()
    }

    fn attend(&mut self, monitor: &mut Monitor<'_>) -> Progress {
        let now = monitor.now();
        self.take_refusals(monitor);
        self.check_ports(monitor);
        self.attend_workers(now);
        self.follow_ports(monitor);
        self.finish_steers();
        self.events.drain(..).for_each(|event| monitor.tell(event));
        if self.schedule.outcome.is_none() {
            return Progress::Continues;
        }
        let termination = &mut self.schedule.termination;
        let termination = termination.get_or_insert_with(|| Termination::new(SIGTERM, now));
        let all_ended = process::reap().map_or(true, |(_, any_left)| !any_left);
        match all_ended || !termination.sweep(now) {
            true => Progress::Ended,
            false => Progress::Continues,
        }
    }

    async fn finish(mut self, monitor: Monitor<'_>, reports: Receiver<Report>) -> u8 {
        self.workers.output.finish(LAST_OUTPUT);
        self.workers.ends.read_output();
        let history = self.history();
        let copies = self.lifecycle.copies();
        let Self { interposer, reporter, control, schedule, pool, options, workers, .. } = self;
        let (requested, signal) = (control.stop_requested, control.stop_signal);
        let end = RunEnd { outcome: schedule.outcome, requested, signal };
        // With a full disk `status` knows nothing of the run.
        let report = end.report(&control.info, options, copies, history);
        let _ = control.socket.write_ended(&report);
        reporter.end();
        match control.stop_requested {
            true => pool.clear_store(),
            false => pool.settle_store().await,
        }
        control.manager.flush();
        pool.forget_prepared();
        let mut ports = pool.extended_ports();
        drop((reporter, pool));
        ports.extend(workers.outside.map(OutsidePorts::ports).unwrap_or_default());
        extended::remove_empty(ports);
        // Ends the threads that answer workers, which `monitor` waits for.
        interposer.finish();
        monitor.finish(reports).await;
        for responder in control.responders {
            responder.finish(ControlReply::Done);
        }
        control.socket.close().await;
        end.exit_code()
    }
}

impl NamedRun<'_> {
    fn ready(&mut self, start: InstanceId, now: Duration) {
        self.settle_listeners(start);
        self.workers.ends.ready(start);
        if let Some(first) = self.workers.get(start) {
            let is_canary = self.lifecycle.is_canary(start);
            self.control.counters.ready(first.ordinal, is_canary, now);
        }
        let actions = self.lifecycle.ready(start, now);
        self.execute(actions, now);
        self.pool.expect(self.lifecycle.addresses());
    }

    /// How the worker with this first process was executed.
    fn launch_of(&self, pid: i32) -> LaunchOptions {
        let start = self.workers.by_pid(pid).map(|(start, _)| start);
        let number = start.and_then(|start| self.lifecycle.command(start));
        let command = number.and_then(|number| self.workers.commands.get(number));
        command.map_or_else(|| self.plan.launch.clone(), |command| command.launch.clone())
    }

    fn take_notified(&mut self, now: Duration) {
        for start in self.readiness.take_notified(&self.workers) {
            self.ready(start, now);
        }
    }

    /// Reports to the lifecycle the addresses that workers listen on.
    fn take_listens(&mut self, now: Duration) {
        let listens = self.pool.take_listens();
        for (start, address) in &listens {
            let actions = self.lifecycle.listening(*start, listen_key(address), now);
            self.execute(actions, now);
        }
        if !listens.is_empty() {
            self.pool.expect(self.lifecycle.addresses());
        }
    }

    fn attend_workers(&mut self, now: Duration) {
        self.inspect_listeners(now);
        self.take_listens(now);
        if self.readiness.has_notified() {
            self.take_notified(now);
        }
        self.attend_drains(now);
        let actions = self.lifecycle.tick(now);
        self.execute(actions, now);
        self.join_announcers();
        self.workers.sweep_orphans(&self.pool, now);
        if now >= self.schedule.next_round {
            let begun = Instant::now();
            self.round(now);
            // Rounds over many workers take a twentieth of the time at most.
            self.schedule.next_round = now + ROUND.max(begun.elapsed() * 20);
        }
        self.continue_release(now);
        self.control.manager.update(&self.lifecycle);
        self.answer_followers();
        self.find_ended_orphans(now);
        self.write_changed_record(now);
        self.undo_change(now);
    }

    fn first_process_ended(&mut self, start: InstanceId, exit: Exit, now: Duration) {
        let Some(first) = self.workers.get(start) else { return };
        let (pid, ordinal) = (first.pid, first.ordinal);
        let mut remaining = self.pool.processes().of(start, &self.pool.own(start));
        let was_told = self.drains.contains(start) || self.lifecycle.is_leaving(start);
        let may_detach = exit == Exit::Code(0) && !was_told;
        if may_detach && remaining.is_empty() {
            let is_check = |pid| self.readiness.is_command(pid);
            remaining = self.workers.unclaimed(start, &self.pool, is_check);
        }
        if may_detach && !remaining.is_empty() {
            self.workers.detach(start, remaining.clone());
            self.events.push(RunEvent::Detached { ordinal, pid, remaining });
            return;
        }
        if !remaining.is_empty() && self.keep_children(start, exit, &remaining, now) {
            return;
        }
        if !remaining.is_empty() {
            self.events.push(RunEvent::EndingLeftovers { pids: remaining.clone() });
            self.workers.end_orphans(start, remaining, now);
        }
        self.worker_ended(start, exit, now);
    }

    fn worker_ended(&mut self, start: InstanceId, exit: Exit, now: Duration) {
        self.drain_ended(start, exit, now);
        self.readiness.remove(start);
        // The worker's last `listen` comes before its end.
        self.take_listens(now);
        let lifecycle = &self.lifecycle;
        self.pool.withdraw_ended(start, |it| lifecycle.expects_listener(&listen_key(it)));
        self.pool.ended(start);
        self.workers.forget_daemons(start);
        if let Some(first) = self.workers.get(start) {
            let was_told = self.lifecycle.is_leaving(start);
            self.count_end(start, first.ordinal, exit, now);
            self.workers.ends.ended(start, first.ordinal, exit, was_told);
        }
        let actions = self.lifecycle.exited(start, exit, now);
        self.execute(actions, now);
        self.workers.remove(start, &self.pool);
        self.control.record.changed();
    }
}
