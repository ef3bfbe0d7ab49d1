//! Reports to the service manager that started the run (sd_notify(3)).

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sameport_policy::lifecycle::{Lifecycle, WorkerState};
use sameport_policy::systemd::{ReportedState, ServiceFacts};
use sameport_policy::watchdog::WatchdogSchedule;
use sameport_sys::systemd::notify::ServiceManager;

use crate::error::RunError;
use crate::plan::RunPlan;

/// The service manager, if there is one, and the state that was reported last.
#[derive(Debug)]
pub(crate) struct ManagerReport {
    manager: Option<Arc<ServiceManager>>,
    reported: ReportedState,
}

/// Connects to the manager at NOTIFY_SOCKET.
pub(crate) fn connect(
    notify_socket: Option<&OsString>,
) -> Result<Option<Arc<ServiceManager>>, RunError> {
    let name = notify_socket.filter(|name| !name.is_empty());
    let manager = name.map(|name| ServiceManager::at(name)).transpose().map_err(io::Error::from);
    Ok(manager.map_err(|error| RunError::System("NOTIFY_SOCKET", error))?.map(Arc::new))
}

/// Reports to the manager's watchdog. The event loop calls it, so that a supervisor that is blocked
/// reports nothing and is ended.
#[derive(Debug, Default)]
pub(crate) struct WatchdogReport(Option<(Arc<ServiceManager>, WatchdogSchedule)>);

impl WatchdogReport {
    pub(crate) fn new(plan: &RunPlan) -> Result<Self, RunError> {
        let Some(schedule) = plan.environment.watchdog.schedule(std::process::id()) else {
            return Ok(Self::default());
        };
        let manager = connect(plan.environment.notify_socket.as_ref())?;
        Ok(Self(manager.map(|manager| (manager, schedule))))
    }

    /// When to call [`Self::attend`] next.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.0.as_ref().map(|(_, schedule)| schedule.next())
    }

    /// Sends the report that is due.
    pub(crate) fn attend(&mut self, now: Duration) {
        if let Some((manager, schedule)) = &mut self.0
            && schedule.take_due(now)
        {
            manager.send("WATCHDOG=1\n".into(), None);
        }
    }
}

impl ManagerReport {
    pub(crate) fn new(manager: Option<Arc<ServiceManager>>) -> Self {
        Self { manager, reported: ReportedState::default() }
    }

    /// Reports the state of the run if it changed.
    pub(crate) fn update(&mut self, lifecycle: &Lifecycle) {
        let Some(manager) = &self.manager else { return };
        let (wanted, stopping) = (usize::from(lifecycle.copies()), lifecycle.is_stopping());
        let is_canary = |start: &_| lifecycle.is_canary(*start);
        let ready = lifecycle.serving().iter().filter(|start| !is_canary(start)).count();
        let reason = if ready < wanted && !stopping { reason(lifecycle) } else { None };
        let facts = ServiceFacts { ready, wanted, stopping, reason };
        if let Some(message) = self.reported.update(facts) {
            manager.send(message, None);
        }
    }

    /// Sends messages that the manager's full socket did not take before.
    pub(crate) fn flush(&self) {
        self.manager.as_ref().map(|manager| manager.flush());
    }
}

/// Why the first worker that is not ready is not.
fn reason(lifecycle: &Lifecycle) -> Option<String> {
    let leaves = |state| matches!(state, WorkerState::Ready | WorkerState::Draining);
    let mut others = lifecycle.report().into_iter().filter(|worker| !leaves(worker.state));
    others.find_map(|worker| Some(format!("worker {}: {}", worker.ordinal, worker.reason?)))
}
