//! The run's side of the control socket and of the service manager.

use std::sync::Arc;
use std::time::Duration;

use sameport_policy::traffic::TrafficRules;
use sameport_sys::systemd::notify::ServiceManager;
use tokio::sync::mpsc::Receiver;

use crate::control::counters::RunCounters;
use crate::control::{ControlSocket, PendingRequest, Responder, RunInfo};
use crate::handover::SupervisorLine;
use crate::pool::LoadProgress;
use crate::service_manager::ManagerReport;
use crate::traffic::PortKey;

/// When to write the record of the run.
///
/// A record describes all workers, and each of them changes several times when all start or stop: one
/// record for each change would take quadratic time.
#[derive(Debug, Default)]
pub(super) struct RecordSchedule {
    is_stale: bool,
    not_before: Duration,
}

impl RecordSchedule {
    /// The least time between two records.
    const INTERVAL: Duration = Duration::from_millis(50);
    /// The least time between two records, as a multiple of the time that one takes.
    const COST: u32 = 20;

    pub(super) fn changed(&mut self) {
        self.is_stale = true;
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.is_stale.then_some(self.not_before)
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.is_stale && now >= self.not_before
    }

    /// A record has been written, which took this time.
    pub(super) fn written(&mut self, now: Duration, took: Duration) {
        *self = Self { is_stale: false, not_before: now + Self::INTERVAL.max(took * Self::COST) };
    }
}

pub(super) struct ControlEndpoint {
    pub(super) socket: ControlSocket,
    pub(super) requests: Receiver<PendingRequest>,
    pub(super) info: RunInfo,
    /// Answer the request that is being executed; more than one only while the run stops.
    pub(super) responders: Vec<Responder>,
    /// The clients of an announced stop, until it begins.
    pub(super) announcers: Vec<Responder>,
    /// Whether a request, and not a signal, asked the run to stop.
    pub(super) stop_requested: bool,
    /// The signal that asked the run to stop.
    pub(super) stop_signal: Option<i32>,
    pub(super) manager: ManagerReport,
    pub(super) record: RecordSchedule,
    /// For the status and the record.
    pub(super) counters: RunCounters,
    pub(super) change: OptionsChange,
    /// Policies whose programs are being loaded, in the order of the requests.
    pub(super) steers: Vec<WaitingSteer>,
}

/// A request for a policy.
pub(super) struct WaitingSteer {
    pub(super) port: PortKey,
    pub(super) rules: Option<TrafficRules>,
    pub(super) replies: Responder,
    /// `None`: it waits for those before it only.
    pub(super) loading: Option<LoadProgress>,
}

/// The last change of the options of the run.
#[derive(Debug, Default)]
pub(super) struct OptionsChange {
    /// What holds again if the new workers do not become ready.
    pub(super) before: Option<SupervisorLine>,
    /// Why the change was undone, or is about to be.
    pub(super) undone: Option<String>,
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
            announcers: Vec::new(),
            stop_requested: false,
            stop_signal: None,
            manager,
            record: RecordSchedule::default(),
            counters: RunCounters::default(),
            change: OptionsChange::default(),
            steers: Vec::new(),
        }
    }
}
