//! The start of a named run, and its continuation after a `reexec`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sameport_policy::lifecycle::{Action, Lifecycle};
use sameport_sys::fd::inherit;
use sameport_sys::run_files::{NameClaim, folders, lasting_first};
use sameport_sys::seccomp::NotifyListener;
use sameport_sys::systemd::notify::ServiceManager;

use super::control_endpoint::ControlEndpoint;
use super::{NamedRun, ROUND, Schedule, history, takeover};
use crate::control::{ControlSocket, RunInfo, client};
use crate::drain::Drains;
use crate::error::RunError;
use crate::handover::{HandoverState, HandoverWorker};
use crate::interpose::Interposer;
use crate::orphans::Orphans;
use crate::output::OutputPipes;
use crate::plan::{NamedOptions, RunPlan};
use crate::pool::SocketPool;
use crate::pool::inherited::InheritedSocket;
use crate::readiness::Readiness;
use crate::report::Reporter;
use crate::runtime::end_at_once;
use crate::traffic::RunTraffic;
use crate::workers::{FirstProcess, Workers};

impl<'a> NamedRun<'a> {
    /// Starts every worker, or takes over the orphans of a killed supervisor. On failure, the workers
    /// that were started have been ended, and the orphans serve on. To be called within a tokio runtime.
    pub(crate) fn start(
        plan: &'a RunPlan,
        options: &'a NamedOptions,
        interposer: Box<dyn Interposer>,
        reporter: Reporter,
        manager: Option<Arc<ServiceManager>>,
        inherited: &[InheritedSocket],
        orphans: Option<&Orphans>,
    ) -> Result<Self, RunError> {
        let traffic = RunTraffic::of(plan)?;
        let pool = SocketPool::new(options.queue, manager.clone(), traffic);
        pool.adopt(inherited, options.settings.copies)
            .map_err(|errno| RunError::System("fcntl", errno.into()))?;
        let runtime_dir = plan.environment.runtime_dir.as_deref().map(Path::new);
        let folders = match plan.environment.detached {
            true => lasting_first(&options.name, folders(runtime_dir)),
            false => folders(runtime_dir),
        };
        let claim = NameClaim::take(&options.name, &folders).map_err(RunError::ClaimName)?;
        let info = RunInfo {
            command: plan.command.clone(),
            directory: plan.launch.directory.as_ref().unwrap_or(&options.directory).into(),
            since: client::now(),
            service: plan.environment.service.clone(),
            detached: plan.environment.detached,
        };
        let earlier = claim.take_earlier();
        let last_run = history::addresses_of(&earlier, &info);
        let socket = ControlSocket::open(claim, info.clone())
            .map_err(|error| RunError::System("listen", error))?;
        let control = ControlEndpoint::new(socket, info, manager);
        let output = OutputPipes::start(plan)?;
        let lifecycle = match orphans {
            Some(orphans) => takeover::lifecycle(options.settings.clone(), orphans),
            None => Lifecycle::new(options.settings.clone()),
        };
        let mut run = Self {
            plan,
            options,
            interposer,
            reporter,
            lifecycle,
            pool,
            workers: Workers::new(plan, output),
            readiness: Readiness::new(&options.ready)?,
            drains: Drains::default(),
            control,
            schedule: Schedule { next_round: ROUND, ..Schedule::default() },
            events: Vec::new(),
        };
        run.readiness.set_last_run(last_run);
        let started = match orphans {
            Some(orphans) => run.take_over(orphans),
            None => run.start_all(),
        };
        if let Some(record) = earlier.record.filter(|_| started.is_err()) {
            // On a full disk the verbs do not find the run of the killed supervisor.
            let _ = run.control.socket.leave_record(&record);
        }
        started.map(|()| run)
    }

    fn start_all(&mut self) -> Result<(), RunError> {
        for action in self.lifecycle.start_all(Duration::ZERO) {
            let Action::Start { instance, ordinal, command, predecessor } = action else {
                continue;
            };
            if let Err(error) = self.start_worker(instance, ordinal, command, predecessor) {
                end_at_once(self.workers.pids().into_values());
                return Err(RunError::Start(error));
            }
        }
        Ok(())
    }

    /// Continues the run of the program that executed this one. To be called within a tokio runtime.
    pub(crate) fn resume(
        plan: &'a RunPlan,
        options: &'a NamedOptions,
        interposer: Box<dyn Interposer>,
        reporter: Reporter,
        manager: Option<Arc<ServiceManager>>,
        mut state: HandoverState,
    ) -> Result<Self, RunError> {
        let failed = |error| RunError::System("go on with the run", error);
        // An earlier build did not pass it on.
        state.info.service.clone_from(&plan.environment.service);
        let commands = state.take_commands(&plan.launch);
        let lifecycle = Lifecycle::restore(options.settings.clone(), state.snapshot());
        let socket =
            ControlSocket::from_inherited(options.name.clone(), state.info.clone(), state.control)
                .map_err(failed)?;
        // The workers serve, whatever this program can do.
        let traffic = RunTraffic::of(plan).unwrap_or_else(|_| RunTraffic::without_rules(plan));
        let mut run = Self {
            plan,
            options,
            interposer,
            reporter,
            lifecycle,
            pool: SocketPool::new(options.queue, manager.clone(), traffic),
            workers: Workers::new(plan, OutputPipes::resume(plan, state.lifecycle.output.take())?),
            readiness: Readiness::new(&options.ready)?,
            drains: Drains::default(),
            control: ControlEndpoint::new(socket, state.info, manager),
            schedule: Schedule { next_round: state.clock + ROUND, ..Schedule::default() },
            events: Vec::new(),
        };
        run.control.counters = state.lifecycle.counters.restored();
        run.workers.commands = commands;
        run.pool.restore(&state.sockets, &state.groups).map_err(failed)?;
        run.pool.restore_rules(&state.traffic);
        let canaries = state.lifecycle.canary.map(|canary| canary.workers).unwrap_or_default();
        for worker in state.workers.into_iter().chain(canaries) {
            let HandoverWorker { start, ordinal, pid, detached, listener, restricted, .. } = worker;
            let listener = inherit::take(listener).map_err(|errno| failed(errno.into()))?;
            run.pool.begin(start, ordinal, None);
            if restricted {
                run.pool.restrict(start);
            }
            run.answer(start, ordinal, NotifyListener::new(listener)).map_err(failed)?;
            run.workers.first.insert(start, FirstProcess { pid, ordinal, detached });
            run.pool.started(start, pid);
            if detached {
                run.pool.processes().reaped(pid);
            }
        }
        run.steer();
        run.pool.expect(run.lifecycle.addresses());
        if let Some(change) = state.lifecycle.change {
            run.continue_change(change, state.clock);
        }
        Ok(run)
    }
}
