//! The run's side of the control socket and of the service manager.

use std::sync::Arc;

use sameport_sys::systemd::notify::ServiceManager;
use tokio::sync::mpsc::Receiver;

use crate::control::{ControlSocket, PendingRequest, Responder, RunInfo};
use crate::service_manager::ManagerReport;

pub(super) struct ControlEndpoint {
    pub(super) socket: ControlSocket,
    pub(super) requests: Receiver<PendingRequest>,
    pub(super) info: RunInfo,
    /// Answer the request that is being executed; more than one only while the run stops.
    pub(super) responders: Vec<Responder>,
    /// Whether a request, and not a signal, asked the run to stop.
    pub(super) stop_requested: bool,
    /// The signal that asked the run to stop.
    pub(super) stop_signal: Option<i32>,
    pub(super) manager: ManagerReport,
}

impl ControlEndpoint {
    pub(super) fn new(
        (socket, requests): (ControlSocket, Receiver<PendingRequest>),
        info: RunInfo,
        manager: Option<Arc<ServiceManager>>,
    ) -> Self {
        let manager = ManagerReport::new(manager);
        Self {
            socket,
            requests,
            info,
            responders: Vec::new(),
            stop_requested: false,
            stop_signal: None,
            manager,
        }
    }
}
