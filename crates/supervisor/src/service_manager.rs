//! Reports to the service manager that started the run (sd_notify(3)).

use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use sameport_policy::lifecycle::{Lifecycle, WorkerState};
use sameport_policy::systemd::{ReportedState, ServiceFacts};
use sameport_sys::systemd::notify::ServiceManager;

use crate::error::RunError;

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

impl ManagerReport {
    pub(crate) fn new(manager: Option<Arc<ServiceManager>>) -> Self {
        Self { manager, reported: ReportedState::default() }
    }

    /// Reports the state of the run if it changed.
    pub(crate) fn update(&mut self, lifecycle: &Lifecycle) {
        let Some(manager) = &self.manager else { return };
        let (wanted, stopping) = (usize::from(lifecycle.copies()), lifecycle.is_stopping());
        let ready = lifecycle.serving().len();
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
