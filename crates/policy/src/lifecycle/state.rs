//! The state of a run, and questions about it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::instance::{Instance, Pause, Phase, Place, Slot};
use super::model::{Canary, CanaryEnd, InstanceId, LifecycleSettings, RequestFailure, WorkerState};
use crate::drain::DrainMode;

/// A worker that listens on no address for this long is reported.
pub(super) const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// All workers of a run.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    pub(super) settings: LifecycleSettings,
    /// The workers.
    pub(super) slots: BTreeMap<Place, Slot>,
    pub(super) instances: BTreeMap<InstanceId, Instance>,
    pub(super) active_request: Option<ActiveRequest>,
    pub(super) last_instance: InstanceId,
    /// When the last request began.
    pub(super) request_since: Duration,
    /// Whether the last request ends workers without a drain.
    pub(super) is_urgent: bool,
    /// The commands whose workers finish their connections after the stop signal.
    pub(super) self_draining: BTreeSet<usize>,
    pub(super) canary: Option<Canary>,
    pub(super) canary_end: Option<CanaryEnd>,
    /// When a run that is announced as leaving begins to stop.
    pub(super) stops_at: Option<Duration>,
    pub(super) stopping: bool,
    /// Whether [`Action::EndRun`](super::Action::EndRun) was returned.
    pub(super) ended: bool,
}

/// A request in progress.
#[derive(Debug, Clone)]
pub(super) enum ActiveRequest {
    Restart {
        surge: u16,
        remaining: BTreeSet<Place>,
        in_progress: BTreeSet<Place>,
    },
    /// New instances start one after another and replace the old ones together.
    Upgrade {
        command: usize,
        old_command: usize,
        remaining: BTreeSet<Place>,
        /// Whether the new instances may listen on other addresses than the old ones.
        moves: bool,
    },
    /// New workers become ready, or surplus ones end.
    Scale {
        waiting: BTreeSet<Place>,
    },
    /// The workers of the canary start one after another.
    Canary {
        remaining: BTreeSet<Place>,
    },
    /// Everything is done, or was undone after a failure, except that instances end. Another request
    /// may begin.
    Drains(Result<(), RequestFailure>),
}

impl Lifecycle {
    /// A run without instances.
    #[must_use]
    pub fn new(settings: LifecycleSettings) -> Self {
        Self {
            settings,
            slots: BTreeMap::new(),
            instances: BTreeMap::new(),
            active_request: None,
            last_instance: 0,
            request_since: Duration::ZERO,
            is_urgent: false,
            self_draining: BTreeSet::new(),
            canary: None,
            canary_end: None,
            stops_at: None,
            stopping: false,
            ended: false,
        }
    }

    /// The instances that receive new connections.
    #[must_use]
    pub fn serving(&self) -> BTreeSet<InstanceId> {
        let canary_serves = self.canary.as_ref().is_some_and(|canary| canary.since.is_some());
        let slots = self.slots.iter().filter(|(place, _)| !place.canary || canary_serves);
        let serving = slots.filter_map(|(_, slot)| slot.serving);
        serving.filter(|id| self.phase(*id) == Some(Phase::Ready)).collect()
    }

    pub(super) fn phase(&self, id: InstanceId) -> Option<Phase> {
        self.instances.get(&id).map(|instance| instance.phase)
    }

    /// The number of workers in the settings.
    #[must_use]
    pub fn copies(&self) -> u16 {
        self.settings.copies
    }

    /// Whether the run is ending.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// When a run that is announced as leaving begins to stop.
    #[must_use]
    pub fn stops_at(&self) -> Option<Duration> {
        self.stops_at.filter(|_| !self.stopping)
    }

    /// Whether no instance is starting or will restart, so that unused sockets stay unused.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_settled = |slot: &Slot| {
            let will_not_start = matches!(slot.pause, Some(Pause::GivenUp(_)));
            slot.replacement.is_none() && (slot.serving.is_some() || will_not_start)
        };
        let no_change = matches!(self.active_request, None | Some(ActiveRequest::Drains(_)));
        no_change && self.slots.values().all(is_settled)
    }

    /// Whether a request is in progress, whose end is reported.
    #[must_use]
    pub fn has_request(&self) -> bool {
        self.active_request.is_some()
    }

    /// The command whose new workers may listen on other addresses than those that they replace.
    pub(super) fn moves(&self) -> Option<usize> {
        match self.active_request {
            Some(ActiveRequest::Upgrade { command, moves: true, .. }) => Some(command),
            _ => None,
        }
    }

    /// Whether a worker must listen on this address.
    #[must_use]
    pub fn expects_listener(&self, address: &str) -> bool {
        self.slots.values().any(|slot| slot.addresses.contains(address))
    }

    /// The instances that are not ready yet.
    #[must_use]
    pub fn starting(&self) -> Vec<InstanceId> {
        let is_starting = |instance: &Instance| instance.phase.state() == WorkerState::Starting;
        let starting = self.instances.iter().filter(|(_, instance)| is_starting(instance));
        starting.map(|(id, _)| *id).collect()
    }

    /// Whether the instance must listen on the addresses of a predecessor.
    #[must_use]
    pub fn requires_addresses(&self, id: InstanceId) -> bool {
        self.instances.get(&id).is_some_and(|instance| !instance.required.is_empty())
    }

    /// Whether the instance drains or terminates.
    #[must_use]
    pub fn is_leaving(&self, id: InstanceId) -> bool {
        self.phase(id).is_some_and(Phase::is_leaving)
    }

    /// The index of the instance's command.
    #[must_use]
    pub fn command(&self, id: InstanceId) -> Option<usize> {
        self.instances.get(&id).map(|instance| instance.command)
    }

    /// The mode in which workers of this command drain.
    #[must_use]
    pub fn drain_mode(&self, command: usize) -> DrainMode {
        match self.settings.drain {
            DrainMode::Busy if self.drains_itself(command) => DrainMode::None,
            mode => mode,
        }
    }

    /// Whether workers of this command are known to finish their connections after the stop signal.
    #[must_use]
    pub fn drains_itself(&self, command: usize) -> bool {
        self.self_draining.contains(&command)
    }

    /// A worker of this command has finished its connections after the stop signal.
    pub fn learn_self_draining(&mut self, command: usize) {
        self.self_draining.insert(command);
    }

    /// When to call [`Self::tick`] next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let pauses = self.slots.values().filter_map(|slot| match slot.pause {
            Some(Pause::Until(end)) if slot.replacement.is_none() && !self.stopping => Some(end),
            _ => None,
        });
        let promotion = self.canary.as_ref().and_then(Canary::promotes_at);
        let promotion = promotion.filter(|_| self.accepts_request());
        let instances = self.instances.values().filter_map(|instance| self.deadline(instance));
        instances.chain(pauses).chain(promotion).chain(self.stops_at()).min()
    }

    pub(super) fn deadline(&self, instance: &Instance) -> Option<Duration> {
        match instance.phase {
            Phase::Starting { .. } => {
                let silence = instance.is_silent().then_some(instance.since + SILENCE_TIMEOUT);
                let ready = instance.since + self.settings.ready_timeout;
                let ready = instance.has_ready_deadline().then_some(ready);
                silence.into_iter().chain(ready).min()
            }
            Phase::Terminating { deadline } | Phase::Outlived { deadline } => Some(deadline),
            Phase::Ready | Phase::Draining | Phase::Killed => None,
        }
    }
}
