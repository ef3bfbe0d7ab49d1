//! What the service manager that started us is told of the run.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use sameport_policy::lifecycle::Lifecycle;
use sameport_policy::systemd::{ReportedState, ServiceFacts};
use sameport_sys::systemd::notify::ServiceManager;

use crate::error::RunError;

/// The manager, if there is one, and what it knows.
#[derive(Debug)]
pub(crate) struct ManagerReport {
    service: Option<Arc<ServiceManager>>,
    told: ReportedState,
}

/// The manager at NOTIFY_SOCKET.
pub(crate) fn manager(
    notify_socket: Option<&OsString>,
) -> Result<Option<Arc<ServiceManager>>, RunError> {
    let at = notify_socket.filter(|name| !name.is_empty()).map(|name| ServiceManager::at(name));
    let service = at.transpose().map_err(io::Error::from);
    Ok(service.map_err(|error| RunError::System("NOTIFY_SOCKET", error))?.map(Arc::new))
}

impl ManagerReport {
    pub(crate) fn new(service: Option<Arc<ServiceManager>>) -> Self {
        Self { service, told: ReportedState::default() }
    }

    /// Tells what is new.
    pub(crate) fn attend(&mut self, life: &Lifecycle) {
        let Some(service) = &self.service else { return };
        let (wanted, stopping) = (usize::from(life.copies()), life.is_stopping());
        let facts = ServiceFacts { ready: life.serving().len(), wanted, stopping };
        if let Some(news) = self.told.update(facts) {
            service.send(news, None);
        }
    }

    /// Sends what there was no room for.
    pub(crate) fn flush(&self) {
        self.service.as_ref().map(|service| service.flush());
    }
}
