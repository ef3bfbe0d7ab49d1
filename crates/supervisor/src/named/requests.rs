//! Control requests and their replies, and reports of worker changes.

use std::time::{Duration, Instant};

use sameport_policy::bind::each;
use sameport_policy::lifecycle::{
    Action, ChangeReason, InstanceId, RequestFailure, RunRequest, WorkerChange, WorkerState,
};

use super::{NamedRun, history};
use crate::control::protocol::{
    ControlReply, ControlRequest, RunStatus, WorkerTreatment, WorkerUpdate,
};
use crate::control::{PendingRequest, Responder, RunHistory, client, counters};
use crate::event::RunEvent;
use crate::status;
use crate::workers::WorkerCommand;

/// Workers that drain at once up to which the connections of each are counted at its begin.
const COUNTED: usize = 8;

impl NamedRun<'_> {
    pub(super) fn requested(&mut self, request: PendingRequest, now: Duration) {
        let PendingRequest { request, responder: replies } = request;
        let request = match request {
            ControlRequest::Status => {
                let status = self.status(now);
                return replies.finish(ControlReply::Status(Box::new(status)));
            }
            ControlRequest::Steer { port, rules } => {
                return self.request_steer(port.into(), rules, replies);
            }
            ControlRequest::DrainWorker { port, member, undo } => {
                return replies.finish(self.drain_on(port.into(), &member, undo));
            }
            ControlRequest::Traffic { port } => {
                return replies.finish(self.show_traffic(port.into()));
            }
            ControlRequest::Follow if self.lifecycle.is_settled() => {
                return replies.finish(ControlReply::Done);
            }
            ControlRequest::Follow => return self.control.responders.push(replies),
            ControlRequest::Restart { surge, now } => RunRequest::Restart { surge, now },
            ControlRequest::Scale { copies } => match self.scale_refusal(copies) {
                None => RunRequest::Scale { copies },
                Some(refusal) => return replies.finish(refusal),
            },
            ControlRequest::StopAnnounced { announce } if !self.lifecycle.is_stopping() => {
                return self.announce(Duration::from_millis(announce), replies, now);
            }
            ControlRequest::Stop | ControlRequest::StopAnnounced { .. } => {
                RunRequest::Stop { now: false }
            }
            ControlRequest::StopNow => RunRequest::Stop { now: true },
            ControlRequest::Upgrade { .. }
            | ControlRequest::UpgradeWith { .. }
            | ControlRequest::Canary { .. }
            | ControlRequest::Promote
            | ControlRequest::RollBack => match self.upgrade_request(request) {
                Ok(request) => request,
                Err(refusal) => return replies.finish(refusal),
            },
            ControlRequest::Reexec { program } => {
                // On success the next program answers.
                let (error, hint) = self.reexec(program, now);
                return replies.finish(ControlReply::failed(error, hint));
            }
            ControlRequest::Reconfigure(request) => {
                return replies.finish(self.reconfigure(request, now));
            }
        };
        let stops = matches!(request, RunRequest::Stop { .. });
        self.control.stop_requested |= stops;
        if stops || self.lifecycle.accepts_request() {
            self.release_client(now);
        }
        let kind = counters::kind_of(&request);
        match self.lifecycle.request(request, now) {
            Ok(mut actions) => {
                // The request before was ended by this one: its client hears so. The client of a stop
                // hears of the end of the run.
                let is_of_before = |action: &mut Action| match action {
                    Action::RequestDone(Err(RequestFailure::RolledBack)) => true,
                    Action::RequestDone(_) => stops,
                    _ => false,
                };
                let done: Vec<Action> = actions.extract_if(.., is_of_before).collect();
                self.execute(done, now);
                self.control.counters.began(kind, now);
                self.control.responders.push(replies);
                self.execute(actions, now);
            }
            Err(refusal) => {
                let (error, hint) = status::refusal(refusal, &self.workers.pids(), now);
                let hint = hint.replace("NAME", self.options.name.as_str());
                replies.finish(ControlReply::failed(error, Some(&hint)));
            }
        }
    }

    /// Why the run cannot have this number of workers.
    fn scale_refusal(&self, copies: u16) -> Option<ControlReply> {
        if copies == 0 {
            return Some(ControlReply::failed("no workers is no run", Some("stop it instead")));
        }
        let options = &self.plan.bind_options;
        let fault = each::fault(&options.each, copies, &options.rules)?;
        let hint = "give the ports more room when the run is started again";
        Some(ControlReply::failed(fault.to_string(), Some(hint)))
    }

    /// Announces the run as leaving. A change that is under way goes on until the stop begins.
    fn announce(&mut self, time: Duration, replies: Responder, now: Duration) {
        // Neither this request nor one of no time is refused.
        let _ = self.lifecycle.request(RunRequest::Leave { after: time }, now);
        let until = self.lifecycle.stops_at().unwrap_or(now);
        self.control.stop_requested = true;
        self.control.announcers.push(replies);
        self.events.push(RunEvent::Leaving { time: until.saturating_sub(now) });
    }

    /// The clients of an announced stop hear of the end of the run from now on.
    pub(super) fn join_announcers(&mut self) {
        if self.lifecycle.is_stopping() {
            self.control.responders.append(&mut self.control.announcers);
        }
    }

    /// Answers the client of a change of which only drains remain: another change begins.
    fn release_client(&mut self, now: Duration) {
        let actions = self.lifecycle.release_client();
        if actions.is_empty() {
            return;
        }
        for worker in self.lifecycle.report() {
            if worker.state == WorkerState::Draining {
                let update = WorkerUpdate {
                    why: Some("it goes on while another change begins".to_owned()),
                    ..self.update(worker.ordinal, worker.instance, worker.state)
                };
                self.control.responders.iter().for_each(|client| client.send_update(&update));
            }
        }
        self.execute(actions, now);
    }

    /// The command of the workers that serve.
    pub(super) fn present_command(&self) -> Option<&WorkerCommand> {
        self.workers.commands.get(self.lifecycle.serving_command()?)
    }

    /// Answers the client of the request.
    pub(super) fn request_done(&mut self, result: Result<(), RequestFailure>, now: Duration) {
        self.control.counters.finished(result.is_ok(), now);
        if result.is_ok()
            && let Some(WorkerCommand { words, launch }) = self.present_command().cloned()
        {
            let directory = launch.directory.unwrap_or_else(|| self.options.directory.clone());
            self.control.info.command = words;
            self.control.info.directory = directory.into();
            self.control.socket.set_info(self.control.info.clone());
            self.control.record.changed();
        }
        match &result {
            Ok(()) => self.control.change.before = None,
            Err(failure) if self.control.change.before.is_some() => {
                self.control.change.undone = Some(status::failure(failure).0);
            }
            Err(_) => {}
        }
        if let Err(failure) = &result
            && self.control.responders.is_empty()
            && !self.lifecycle.is_stopping()
        {
            let (error, hint) = status::failure(failure);
            self.events.push(RunEvent::NotReplaced { error, hint });
        }
        // A client that has its answer relies on the change, also after SIGKILL of the supervisor.
        if !self.control.responders.is_empty() {
            self.write_record_now(now);
        }
        for responder in self.control.responders.drain(..) {
            responder.finish(match &result {
                Ok(()) => ControlReply::Done,
                Err(failure) => {
                    let (error, hint) = status::failure(failure);
                    ControlReply::failed(error, Some(hint))
                }
            });
        }
    }

    /// The present state of a worker, without details.
    pub(super) fn update(
        &self,
        worker: u16,
        instance: Option<InstanceId>,
        state: WorkerState,
    ) -> WorkerUpdate {
        WorkerUpdate {
            at: client::now(),
            worker,
            canary: instance.is_some_and(|start| self.lifecycle.is_canary(start)),
            pid: instance.and_then(|start| self.workers.get(start)).map(|first| first.pid),
            state: status::phase(state),
            why: None,
            connections: None,
            in_hand: None,
            next_start: None,
        }
    }

    /// Answers clients that follow the start of the run.
    pub(super) fn answer_followers(&mut self) {
        // The client of a stop waits for the end of the run.
        let is_over = self.lifecycle.is_settled() && !self.lifecycle.has_request();
        if is_over && !self.lifecycle.is_stopping() {
            let clients = self.control.responders.drain(..);
            clients.for_each(|client| client.finish(ControlReply::Done));
        }
    }

    /// Reports a worker's change to the client and to the caller of the run.
    pub(super) fn report(&mut self, change: WorkerChange, now: Duration) {
        if let (Some(start), Some(why @ ChangeReason::NotReady(_))) =
            (change.instance, &change.reason)
        {
            self.workers.ends.not_ready(start, why.to_string());
        }
        let connections = match change.state {
            // Each count lists all processes.
            WorkerState::Draining if self.drains.len() <= COUNTED => {
                change.instance.and_then(|start| status::connections(&self.pool, start))
            }
            _ => None,
        };
        let cut = match change.state {
            WorkerState::Gone => change.instance.and_then(|start| self.drains.take_cut(start)),
            _ => None,
        };
        let why = change.reason.map(|reason| reason.to_string());
        let update = WorkerUpdate {
            canary: change.canary,
            why: match (why, cut) {
                (Some(why), Some(cut)) => Some(format!("{why}; {cut}")),
                (why, cut) => why.or(cut),
            },
            connections,
            next_start: match change.state {
                WorkerState::Waiting => self.lifecycle.next_start(change.ordinal, change.canary),
                _ => None,
            }
            .map(|at| status::wall_clock(at, now)),
            ..self.update(change.ordinal, change.instance, change.state)
        };
        for responder in self.control.responders.iter().chain(&self.control.announcers) {
            responder.send_update(&update);
        }
        // A client that follows the start of the run need not wait until the worker succeeds.
        let failed = matches!(change.state, WorkerState::Waiting | WorkerState::GivenUp);
        if failed && !self.lifecycle.has_request() && !self.control.responders.is_empty() {
            let why = update.why.as_deref().unwrap_or("it has ended");
            let error = format!("worker {} did not get ready: {why}", update.worker);
            let hint = "`sameport status` shows its state; the supervisor starts it again";
            let reply = ControlReply::failed(error, Some(hint));
            self.control.responders.drain(..).for_each(|client| client.finish(reply.clone()));
        }
        self.events.push(RunEvent::WorkerChanged(update));
        self.control.record.changed();
    }

    /// Writes the record if it has changed, and the last one is not too recent.
    pub(super) fn write_changed_record(&mut self, now: Duration) {
        if self.control.record.is_due(now) {
            self.write_record_now(now);
        }
    }

    fn write_record_now(&mut self, now: Duration) {
        let begun = Instant::now();
        self.write_record();
        self.control.record.written(now, begun.elapsed());
    }

    /// What the record and the report about the end say of the run.
    pub(super) fn history(&self) -> RunHistory {
        let counters = self.control.counters.clone();
        RunHistory {
            counters,
            ..history::of_run(&self.plan.output, &self.lifecycle, &self.workers.ends)
        }
    }

    /// Everything has started: the record is written, and the supervisor's own messages go where the output goes.
    pub(crate) fn begin(&mut self) {
        // Without another descriptor, the messages go where they went before.
        let _ = self.workers.output.redirect_own();
        self.write_record();
    }

    /// Writes the record for clients that find the supervisor dead.
    pub(crate) fn write_record(&self) {
        let pids: Vec<i32> = self.workers.pids().into_values().collect();
        // With a full disk the run goes on, and those clients learn less.
        let history = self.history();
        let _ = self.control.socket.write_record(&pids, history, self.continuation());
    }

    fn status(&self, now: Duration) -> RunStatus {
        let status = status::StatusFacts {
            options: self.options,
            output: &self.plan.output,
            info: &self.control.info,
            interposer: self.interposer.name(),
            private: self.plan.scope.private,
            lifecycle: &self.lifecycle,
            commands: &self.workers.commands,
            pool: &self.pool,
            pids: &self.workers.pids(),
            ends: &self.workers.ends,
            counters: &self.control.counters,
            now,
        }
        .status();
        let treatment = WorkerTreatment {
            traffic: self.traffic_of_ports(),
            start: Some(self.run_start()),
            ..status.treatment
        };
        RunStatus { treatment, ..status }
    }
}
