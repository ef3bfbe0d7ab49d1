//! Workers of a killed supervisor: this run takes them over, and replaces or ends them.

use std::time::Duration;

use sameport_policy::lifecycle::exit::Exit;
use sameport_policy::lifecycle::{
    Action, InstanceId, Lifecycle, LifecycleSettings, RunRequest, ServingWorker, WorkerReport,
    WorkerState,
};
use sameport_sys::ProcessIdentity;
use sameport_sys::process::{ForeignProcess, StartError};

use super::NamedRun;
use crate::control::continuation::{Continuation, RecordedWorker};
use crate::error::RunError;
use crate::event::RunEvent;
use crate::handover::HandoverTraffic;
use crate::orphans;
use crate::orphans::{OrphanedWorker, Orphans};
use crate::plan::RunBegin;

/// The lifecycle of a run that begins with orphans.
pub(super) fn lifecycle(settings: LifecycleSettings, orphans: &Orphans) -> Lifecycle {
    let serving = |worker: &OrphanedWorker| ServingWorker {
        ordinal: worker.ordinal,
        instance: worker.start,
        command: 0,
        since: Duration::ZERO,
        restarts: 0,
        addresses: worker.addresses.clone(),
    };
    Lifecycle::with_orphans(settings, orphans.workers.iter().map(serving).collect())
}

impl NamedRun<'_> {
    /// Takes the orphans over and begins to replace or to end them. On failure they are as before.
    pub(super) fn take_over(&mut self, orphans: &Orphans) -> Result<(), RunError> {
        let failed = |errno| RunError::System("fcntl", std::io::Error::from(errno));
        let holds = self.learns_of_listeners();
        let (rules, drained) = (orphans.traffic.clone(), Vec::new());
        self.pool.restore_rules(&HandoverTraffic { rules, drained });
        self.pool.take_over(orphans, holds).map_err(failed)?;
        self.control.counters = orphans.counters.clone();
        for worker in self.lifecycle.report() {
            let Some(start) = worker.instance else { continue };
            let orphan = orphans.workers.iter().find(|orphan| orphan.start == start);
            if let Some(orphan) = orphan
                && let Some(inode) = orphan.unread
            {
                let pids: Vec<i32> = orphan.processes.iter().map(ForeignProcess::pid).collect();
                self.workers.output.take_over(start, worker.ordinal, inode, &pids);
            }
            let processes = orphan.map_or(&[][..], |orphan| &orphan.processes).iter();
            let processes = processes.map(ForeignProcess::try_clone).collect::<Result<_, _>>();
            self.workers.take_over(start, worker.ordinal, processes.map_err(failed)?, &self.pool);
        }
        self.steer();
        self.events.push(RunEvent::TakesOver {
            supervisor: orphans.supervisor,
            pids: orphans.pids(),
            stops: matches!(self.options.begin, RunBegin::Stop { .. }),
        });
        let actions = match self.options.begin {
            RunBegin::Stop { now } => {
                self.control.stop_requested = true;
                let request = RunRequest::Stop { now };
                self.lifecycle.request(request, Duration::ZERO).unwrap_or_default()
            }
            RunBegin::Start | RunBegin::Resume(_) => self.lifecycle.replace_orphans(Duration::ZERO),
        };
        self.begin_takeover(actions).map_err(RunError::Start)
    }

    /// Executes the first actions. A command that cannot be executed ends the takeover before anything
    /// has changed for the orphans.
    fn begin_takeover(&mut self, mut actions: Vec<Action>) -> Result<(), StartError> {
        let first = actions.iter().position(|action| matches!(action, Action::Start { .. }));
        if let Some(index) = first
            && let Action::Start { instance, ordinal, command, predecessor } = actions.remove(index)
        {
            self.start_worker(instance, ordinal, command, predecessor)?;
            let started = self.lifecycle.started(instance);
            self.execute(started, Duration::ZERO);
        }
        self.execute(actions, Duration::ZERO);
        Ok(())
    }

    /// Reports orphans that have ended to the lifecycle.
    pub(super) fn find_ended_orphans(&mut self, now: Duration) {
        if !self.workers.has_foreign() {
            return;
        }
        let name = &self.options.name;
        let left = |group| orphans::left_in_group(group, name);
        for start in self.workers.take_ended_foreign(&self.pool, left) {
            self.worker_ended(start, Exit::Unseen, now);
        }
    }

    /// What another supervisor needs to continue the run.
    pub(super) fn continuation(&self) -> Continuation {
        let identity = |pid: &i32| ProcessIdentity::of(u32::try_from(*pid).ok()?).ok();
        let recorded = |worker: &WorkerReport, start: InstanceId| {
            let pids = self.workers.main_processes(start);
            RecordedWorker {
                ordinal: worker.ordinal,
                canary: worker.canary,
                start,
                ready: worker.state == WorkerState::Ready,
                processes: pids.iter().filter_map(identity).map(|it| it.to_string()).collect(),
                addresses: self.pool.listen_keys(start),
            }
        };
        let report = self.lifecycle.report();
        let workers = report.iter().filter_map(|it| Some(recorded(it, it.instance?)));
        let workers = workers.collect();
        let (sockets, groups) = self.pool.in_use();
        Continuation {
            arguments: self.options.arguments.clone(),
            directory: self.options.directory.clone().into(),
            copies: self.lifecycle.copies(),
            workers,
            sockets,
            groups,
            traffic: self.pool.own_rules().rules,
            output: self.workers.output.record(),
        }
    }
}
