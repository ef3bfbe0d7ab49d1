//! What the service manager that started us is told of the run.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use sameport_policy::lifecycle::Life;
use sameport_policy::systemd::{Facts, Told};
use sameport_sys::systemd::notify::Service;

use crate::Error;

/// The manager, if there is one, and what it knows.
#[derive(Debug)]
pub(crate) struct Telling {
    service: Option<Arc<Service>>,
    told: Told,
}

/// The manager at NOTIFY_SOCKET.
pub(crate) fn manager(notify_socket: Option<&OsString>) -> Result<Option<Arc<Service>>, Error> {
    let at = notify_socket.filter(|name| !name.is_empty()).map(|name| Service::at(name));
    let service = at.transpose().map_err(io::Error::from);
    Ok(service.map_err(|error| Error::System("NOTIFY_SOCKET", error))?.map(Arc::new))
}

impl Telling {
    pub(crate) fn new(service: Option<Arc<Service>>) -> Self {
        Self { service, told: Told::default() }
    }

    /// Tells what is new.
    pub(crate) fn attend(&mut self, life: &Life) {
        let Some(service) = &self.service else { return };
        let (wanted, stopping) = (usize::from(life.copies()), life.is_stopping());
        let facts = Facts { ready: life.live().len(), wanted, stopping };
        if let Some(news) = self.told.news(facts) {
            service.tell(news, None);
        }
    }

    /// Sends what there was no room for.
    pub(crate) fn flush(&self) {
        self.service.as_ref().map(|service| service.flush());
    }
}
