//! Control requests and their replies, and reports of worker changes.

use std::time::Duration;

use sameport_policy::lifecycle::{Action, RequestFailure, RunRequest, WorkerChange, WorkerState};

use super::NamedRun;
use crate::control::protocol::{ControlReply, ControlRequest, RunStatus, WorkerUpdate};
use crate::control::{PendingRequest, client, command};
use crate::event::RunEvent;
use crate::status;

impl NamedRun<'_> {
    pub(super) fn requested(&mut self, request: PendingRequest, now: Duration) {
        let PendingRequest { request, responder: replies } = request;
        let request = match request {
            ControlRequest::Status => {
                let status = self.status(now);
                return replies.finish(ControlReply::Status(Box::new(status)));
            }
            ControlRequest::Restart { surge } => RunRequest::Restart { surge },
            ControlRequest::Scale { copies: 0 } => {
                return replies
                    .finish(ControlReply::failed("no workers is no run", Some("stop it instead")));
            }
            ControlRequest::Scale { copies } => RunRequest::Scale { copies },
            ControlRequest::Stop => RunRequest::Stop,
            ControlRequest::Upgrade { command } => {
                let search_path = self.plan.search_path.as_deref();
                let directory = &self.options.directory;
                if let Some(refusal) = command::refusal(&command, search_path, directory) {
                    return replies.finish(refusal);
                }
                self.workers.commands.push(command);
                RunRequest::Upgrade { command: self.workers.commands.len() - 1 }
            }
            ControlRequest::Reexec { program } => {
                // On success the next program answers.
                let (error, hint) = self.reexec(program, now);
                return replies.finish(ControlReply::failed(error, hint));
            }
        };
        let stops = request == RunRequest::Stop;
        self.control.stop_requested |= stops;
        match self.lifecycle.request(request, now) {
            Ok(mut actions) => {
                if stops {
                    // The request before was stopped by this one: its client hears so. The client of
                    // this one hears of the end of the run.
                    let is_done = |action: &mut Action| matches!(action, Action::RequestDone(_));
                    let done: Vec<Action> = actions.extract_if(.., is_done).collect();
                    self.execute(done, now);
                }
                self.control.responder = Some(replies);
                self.execute(actions, now);
            }
            Err(refusal) => {
                let (error, hint) = status::refusal(refusal);
                replies.finish(ControlReply::failed(error, Some(hint)));
            }
        }
    }

    /// Answers the client of the request.
    pub(super) fn request_done(&mut self, result: Result<(), RequestFailure>) {
        if result.is_ok()
            && let Some(start) = self.lifecycle.serving().first()
            && let Some(command) = self.lifecycle.command(*start)
        {
            let command = &self.workers.commands[command];
            self.control.info.command.clone_from(command);
            self.control.socket.set_command(command.clone());
            self.write_record();
        }
        if let Some(responder) = self.control.responder.take() {
            responder.finish(match result {
                Ok(()) => ControlReply::Done,
                Err(failure) => {
                    let (error, hint) = status::failure(failure);
                    ControlReply::failed(error, Some(hint))
                }
            });
        }
    }

    /// Reports a worker's change to the client and to the caller of the run.
    pub(super) fn report(&mut self, change: WorkerChange, now: Duration) {
        let pid = change.instance.and_then(|start| self.workers.get(start)).map(|first| first.pid);
        let connections = match change.state {
            WorkerState::Draining => change
                .instance
                .and_then(|start| status::connections(&self.pool, start, pid.unwrap_or(0))),
            _ => None,
        };
        let update = WorkerUpdate {
            at: client::now(),
            worker: change.ordinal,
            pid,
            state: status::phase(change.state),
            why: change.reason.map(|reason| reason.to_string()),
            connections,
            next_start: match change.state {
                WorkerState::Waiting => self.lifecycle.next_start(change.ordinal),
                _ => None,
            }
            .map(|at| status::wall_clock(at, now)),
        };
        if let Some(responder) = &self.control.responder {
            responder.send_update(&update);
        }
        self.events.push(RunEvent::WorkerChanged(update));
        self.write_record();
    }

    /// Writes the record for clients that find the supervisor dead.
    pub(crate) fn write_record(&self) {
        let pids: Vec<i32> = self.workers.pids().into_values().collect();
        // With a full disk the run goes on, and those clients learn less.
        let _ = self.control.socket.write_record(&pids);
    }

    fn status(&self, now: Duration) -> RunStatus {
        status::StatusFacts {
            options: self.options,
            info: &self.control.info,
            interposer: self.interposer.name(),
            private: self.plan.private,
            lifecycle: &self.lifecycle,
            pool: &self.pool,
            pids: &self.workers.pids(),
            now,
        }
        .status()
    }
}
