//! The request in progress, for the refusal of another one.

use super::instance::{CHILDREN_GRACE, Instance, Pause, Phase, Place};
use super::model::{BusyRequest, InstanceId, RequestKind, WaitsFor, WorkerState};
use super::state::{ActiveRequest, Lifecycle};

impl Lifecycle {
    /// Whether a request other than a stop would be accepted.
    #[must_use]
    pub fn accepts_request(&self) -> bool {
        !self.stopping && self.stops_at.is_none() && self.busy().is_none()
    }

    /// The request in progress that refuses another one.
    pub(super) fn busy(&self) -> Option<BusyRequest> {
        let (kind, places): (_, Vec<Place>) = match self.active_request.as_ref()? {
            ActiveRequest::Restart { in_progress, .. } => {
                (RequestKind::Restart, in_progress.iter().copied().collect())
            }
            ActiveRequest::Upgrade { .. } => {
                let kind = match self.canary {
                    Some(_) => RequestKind::Promotion,
                    None => RequestKind::Upgrade,
                };
                (kind, self.slots.keys().copied().collect())
            }
            ActiveRequest::Scale { waiting } => {
                (RequestKind::Scale, waiting.iter().copied().collect())
            }
            ActiveRequest::Canary { .. } => {
                let places = self.slots.keys().copied().filter(|place| place.canary);
                (RequestKind::Canary, places.collect())
            }
            ActiveRequest::Drains(_) => return None,
        };
        let waits_for = places.into_iter().find_map(|place| self.waits_for(place));
        Some(BusyRequest { kind, since: self.request_since, waits_for })
    }

    /// What delays the change of a worker.
    fn waits_for(&self, place: Place) -> Option<WaitsFor> {
        let ordinal = place.ordinal;
        let slot = self.slots.get(&place);
        let of_worker = |(_, it): &(&InstanceId, &Instance)| it.place == place;
        let starting = slot.and_then(|slot| slot.replacement);
        let leaving = || {
            let mut instances = self.instances.iter().filter(of_worker);
            instances.find(|(_, it)| it.phase.is_leaving()).map(|(id, _)| *id)
        };
        let Some(id) = starting.or_else(leaving) else {
            let until = match slot?.pause? {
                Pause::Until(end) => Some(end),
                Pause::GivenUp(_) => return None,
            };
            let state = WorkerState::Waiting;
            return Some(WaitsFor { ordinal, instance: None, state, until });
        };
        let instance = self.instances.get(&id)?;
        let until = match instance.phase {
            Phase::Starting { .. } => {
                let ready = instance.since + self.settings.ready_timeout;
                instance.has_ready_deadline().then_some(ready)
            }
            Phase::Draining => {
                Some(instance.since + self.settings.drain_timeout + self.settings.grace)
            }
            Phase::Terminating { deadline } => Some(deadline),
            Phase::Outlived { deadline } => Some(deadline + CHILDREN_GRACE),
            Phase::Ready | Phase::Killed => None,
        };
        // A ready replacement of an upgrade waits for the others.
        (instance.phase != Phase::Ready).then(|| WaitsFor {
            ordinal,
            instance: Some(id),
            state: instance.phase.state(),
            until,
        })
    }
}
