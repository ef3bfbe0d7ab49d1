//! The actions that the lifecycle orders.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use sameport_policy::lifecycle::{Action, InstanceId};
use sameport_policy::readiness::listen_key;
use sameport_sys::process;
use sameport_sys::process::{ListenFds, SpawnOptions, StartError};
use sameport_sys::seccomp::NotifyListener;

use super::NamedRun;
use crate::output::WorkerStreams;
use crate::pool::{WorkerSockets, inherited};
use crate::readiness::CheckedWorker;
use crate::termination::SIGKILL;
use crate::workers::FirstProcess;
use crate::{handover, processes};

impl NamedRun<'_> {
    /// Executes actions, and those that follow from them.
    pub(super) fn execute(&mut self, actions: Vec<Action>, now: Duration) {
        let mut pending: VecDeque<Action> = actions.into();
        while let Some(action) = pending.pop_front() {
            match action {
                Action::Start { instance, ordinal, command, predecessor } => {
                    pending.extend(
                        match self.start_worker(instance, ordinal, command, predecessor) {
                            Ok(()) => self.lifecycle.started(instance),
                            Err(error) => {
                                let why = error.to_string();
                                self.pool.ended(instance);
                                self.lifecycle.start_failed(instance, why, now)
                            }
                        },
                    );
                }
                Action::CheckReady(start) => {
                    let Some(FirstProcess { pid, ordinal, .. }) = self.workers.get(start) else {
                        continue;
                    };
                    let has_predecessor = self.lifecycle.requires_addresses(start);
                    let worker = CheckedWorker { start, ordinal, pid, has_predecessor };
                    self.readiness.start(worker, &self.plan.bind_options.each, &self.pool);
                }
                Action::UpdateSteering => {
                    if !self.lifecycle.is_stopping() {
                        self.steer();
                    }
                }
                Action::StopAccepting => self.pool.close(),
                Action::Withdraw(start) => {
                    let lifecycle = &self.lifecycle;
                    self.pool.withdraw(start, |it| lifecycle.expects_listener(&listen_key(it)));
                }
                Action::Drain(start, mode) => self.drain(start, mode, now),
                Action::Terminate(start) => {
                    self.pool.terminating(start);
                    self.drains.signalled(start, now);
                    self.workers.signal(start, self.options.stop_signal.number(), &self.pool);
                }
                Action::Kill(start) => self.workers.kill(start, &self.pool),
                Action::Report(change) => self.report(change, now),
                Action::CanaryEnded(end) => self.canary_ended(end),
                Action::RequestDone(result) => self.request_done(result, now),
                Action::EndRun(outcome) => self.schedule.outcome = Some(outcome),
            }
        }
    }

    pub(super) fn start_worker(
        &mut self,
        start: InstanceId,
        ordinal: u16,
        command: usize,
        predecessor: Option<InstanceId>,
    ) -> Result<(), StartError> {
        let command = self.workers.commands[command].clone();
        let mut options: SpawnOptions<'_> = self.interposer.spawn_options(ordinal);
        command.launch.apply(&mut options);
        options.own_group = true;
        let variables = [
            (processes::NAME, self.options.name.as_str().to_owned()),
            (processes::WORKER, ordinal.to_string()),
            (processes::START, start.to_string()),
        ];
        let variables = variables.map(|(name, value)| (name.into(), Some(value.into())));
        options.environment.extend(variables);
        let notify_socket = self.readiness.notify_socket().map(Into::into);
        options.environment.push(("NOTIFY_SOCKET".into(), notify_socket));
        options.environment.extend(handover::OWN_VARIABLES.map(|name| (name.into(), None)));
        self.pool.begin(start, ordinal, predecessor);
        let passed = self.pool.pass_to(start).map_err(|errno| StartError::Fork(errno.into()))?;
        options.environment.extend(inherited::variables(passed.len()));
        if !passed.is_empty() {
            let sockets = passed.iter().map(AsFd::as_fd).collect();
            let environment = self.options.environment.clone();
            options.listen_fds = Some(ListenFds { sockets, environment });
        }
        let file = self.workers.ends.open_log(start).map_err(StartError::Log)?;
        let streams = self.workers.output.open(start, ordinal).map_err(StartError::Fork)?;
        options.output = match (&file, &streams) {
            (Some(file), _) => Some((file.as_fd(), file.as_fd())),
            (None, streams) => streams.as_ref().map(WorkerStreams::borrowed),
        };
        let worker = process::spawn(&command.words, &options)?;
        drop(options);
        let first = FirstProcess { pid: worker.pid, ordinal, detached: false };
        self.workers.first.insert(start, first);
        self.control.counters.started(ordinal, self.lifecycle.is_canary(start));
        self.pool.started(start, worker.pid);
        if let Some(listener) = worker.listener
            && let Err(error) = self.answer(start, ordinal, listener)
        {
            // Its calls would wait for ever.
            let _ = process::signal(worker.pid, SIGKILL);
            self.workers.remove(start, &self.pool);
            return Err(StartError::Fork(error));
        }
        Ok(())
    }

    /// Lets the interposer answer a worker's calls.
    pub(super) fn answer(
        &mut self,
        start: InstanceId,
        ordinal: u16,
        listener: NotifyListener,
    ) -> io::Result<()> {
        self.workers.listeners.insert(start, listener.duplicate()?);
        let sockets = self.options.hold.then(|| WorkerSockets::new(self.pool.clone(), start));
        self.interposer.answer_worker(listener, ordinal, sockets)
    }
}
