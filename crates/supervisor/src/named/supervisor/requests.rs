//! What is asked of a run while it runs, and what is told of it.

use std::collections::BTreeMap;
use std::time::Duration;

use sameport_policy::lifecycle;
use sameport_policy::lifecycle::InstanceId;
use sameport_policy::lifecycle::{Action, RunRequest};

use super::Supervisor;
use crate::control::protocol;
use crate::control::protocol::ControlReply;
use crate::control::{PendingRequest, client, command};
use crate::event::RunEvent;
use crate::named::status;
use crate::runtime::STOPPING;

impl Supervisor<'_> {
    pub(crate) fn signalled(&mut self, number: i32, now: Duration) {
        if !STOPPING.contains(&number) {
            for start in self.processes.keys() {
                self.signal(*start, number);
            }
            return;
        }
        let orders = match self.life.is_stopping() {
            true => self.life.kill(now),
            false => self.life.request(RunRequest::Stop, now).unwrap_or_default(),
        };
        self.obey(orders, now);
    }

    pub(crate) fn tell(&mut self, change: lifecycle::WorkerChange) {
        let pid = change.instance.and_then(|start| self.processes.get(&start)).map(|it| it.pid);
        let connections = match change.state {
            lifecycle::WorkerState::Draining => change
                .instance
                .and_then(|start| status::connections(&self.held, start, pid.unwrap_or(0))),
            _ => None,
        };
        let change = protocol::WorkerUpdate {
            at: client::now(),
            worker: change.ordinal,
            pid,
            state: status::state(change.state),
            why: change.reason.map(|why| why.to_string()),
            connections,
        };
        if let Some(caller) = &self.caller {
            caller.change(&change);
        }
        self.untold.push(RunEvent::WorkerChanged(change));
        self.write_record();
    }

    pub(crate) fn write_record(&self) {
        let pids: Vec<i32> = self.processes.values().map(|process| process.pid).collect();
        // A full disk is no reason to end; who asks after our death knows less.
        let _ = self.door.record(&pids);
    }

    pub(crate) fn called(&mut self, call: PendingRequest, now: Duration) {
        let PendingRequest { request, replies } = call;
        let request = match request {
            protocol::ControlRequest::Status => {
                let status = self.status(now);
                return replies.end(ControlReply::Status(Box::new(status)));
            }
            protocol::ControlRequest::Restart { surge } => RunRequest::Restart { surge },
            protocol::ControlRequest::Scale { copies: 0 } => {
                return replies
                    .end(ControlReply::failed("no workers is no run", Some("stop it instead")));
            }
            protocol::ControlRequest::Scale { copies } => RunRequest::Scale { copies },
            protocol::ControlRequest::Stop => RunRequest::Stop,
            protocol::ControlRequest::Upgrade { command } => {
                let search_path = self.plan.search_path.as_deref();
                if let Some(refusal) =
                    command::refusal(&command, search_path, &self.named.directory)
                {
                    return replies.end(refusal);
                }
                self.commands.push(command);
                RunRequest::Upgrade { command: self.commands.len() - 1 }
            }
            protocol::ControlRequest::Reexec { program } => {
                // On success there is nobody left here to answer.
                let (error, hint) = self.reexec(program, now);
                return replies.end(ControlReply::failed(error, hint));
            }
        };
        let stops = request == RunRequest::Stop;
        self.asked_to_stop |= stops;
        match self.life.request(request, now) {
            Ok(orders) => {
                // Whoever stops a run hears of its end; who asked before hears that it was stopped.
                let orders = match stops {
                    true => {
                        let (done, rest) = orders.into_iter().partition::<Vec<_>, _>(|order| {
                            matches!(order, Action::RequestDone(_))
                        });
                        self.obey(done, now);
                        rest
                    }
                    false => orders,
                };
                self.caller = Some(replies);
                self.obey(orders, now);
            }
            Err(refusal) => {
                let (error, hint) = status::refusal(refusal);
                replies.end(ControlReply::failed(error, Some(hint)));
            }
        }
    }

    pub(crate) fn done(&mut self, result: Result<(), lifecycle::RequestFailure>) {
        if result.is_ok()
            && let Some(start) = self.life.serving().first()
            && let Some(command) = self.life.command(*start)
        {
            self.about.command.clone_from(&self.commands[command]);
            self.door.upgraded(self.about.command.clone());
            self.write_record();
        }
        if let Some(caller) = self.caller.take() {
            caller.end(match result {
                Ok(()) => ControlReply::Done,
                Err(failed) => {
                    let (error, hint) = status::failure(failed);
                    ControlReply::failed(error, Some(hint))
                }
            });
        }
    }

    pub(crate) fn status(&self, now: Duration) -> protocol::RunStatus {
        let pids: BTreeMap<InstanceId, i32> =
            self.processes.iter().map(|(start, process)| (*start, process.pid)).collect();
        status::StatusFacts {
            private: self.plan.private,
            named: self.named,
            about: &self.about,
            via: self.interposer.name(),
            life: &self.life,
            held: &self.held,
            pids: &pids,
            now,
        }
        .status()
    }
}
