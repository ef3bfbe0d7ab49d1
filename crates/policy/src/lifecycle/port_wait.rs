//! Addresses that another program holds: a worker that ends because of one does not crash. Its next
//! start waits until the address is free.
//!
//! The report of a refused bind does not tell which worker made it. All workers of a run execute the
//! same command, so the refusal applies to each one that does not serve.

use std::collections::BTreeSet;
use std::time::Duration;

use super::instance::{Pause, Place, Slot};
use super::model::{Action, ChangeReason, HeldPort, WorkerState};
use super::state::Lifecycle;

/// The longest wait before a worker tries the address again.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// A refusal that is reported this long after the end of a worker explains the end: its reason is
/// found by an inspection, which takes a moment.
const EXPLAINS: Duration = Duration::from_secs(10);

impl Lifecycle {
    /// A worker's bind was refused because another program holds the address.
    pub fn port_held(&mut self, port: &HeldPort, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        for (place, slot) in &mut self.slots {
            if slot.serving.is_some() || slot.waits_for.is_some() {
                continue;
            }
            let unexplained = std::mem::take(&mut slot.unexplained);
            let was_no_crash = unexplained > 0 && ended_lately(slot, now);
            if was_no_crash {
                slot.crashes = slot.crashes.saturating_sub(unexplained);
                slot.restarts = slot.restarts.saturating_sub(unexplained);
            }
            if slot.replacement.is_some() {
                slot.waits_for = Some(port.clone());
            } else if was_no_crash && !self.stopping {
                slot.waits_for = Some(port.clone());
                actions.push(wait_for_port(*place, slot, port, now));
            }
        }
        actions
    }

    /// The addresses that workers wait for.
    #[must_use]
    pub fn awaited_ports(&self) -> BTreeSet<String> {
        let waiting = self.slots.values().filter(|slot| is_waiting(slot) && !self.stopping);
        waiting.filter_map(|slot| slot.waits_for.as_ref()).map(|it| it.address.clone()).collect()
    }

    /// The address is free: starts the workers that wait for it.
    pub fn port_free(&mut self, address: &str, now: Duration) -> Vec<Action> {
        for slot in self.slots.values_mut() {
            let waits = slot.waits_for.as_ref().is_some_and(|port| port.address == address);
            if waits && is_waiting(slot) {
                slot.pause = Some(Pause::Until(now));
            }
        }
        self.tick(now)
    }
}

/// Plans the next start of a worker that ended because of a held address.
pub(super) fn wait_for_port(
    place: Place,
    slot: &mut Slot,
    port: &HeldPort,
    now: Duration,
) -> Action {
    slot.pause = Some(Pause::Until(now + MAX_WAIT));
    let (state, reason) = (WorkerState::Waiting, Some(ChangeReason::PortHeld(port.clone())));
    Action::Report(place.change(None, state, reason))
}

fn is_waiting(slot: &Slot) -> bool {
    let is_empty = slot.serving.is_none() && slot.replacement.is_none();
    is_empty && matches!(slot.pause, Some(Pause::Until(_)))
}

/// Whether a refusal that is reported now explains the last end.
pub(super) fn ended_lately(slot: &Slot, now: Duration) -> bool {
    let lately = |(at, _): &(Duration, ChangeReason)| now.saturating_sub(*at) <= EXPLAINS;
    slot.last_end.as_ref().is_some_and(lately)
}

#[cfg(test)]
mod tests {
    use super::super::exit::Exit;
    use super::super::tests::{at, settings};
    use super::*;

    fn port() -> HeldPort {
        HeldPort { address: "127.0.0.1:80".into(), holder: "nginx (pid 7, user root)".into() }
    }

    fn starts(actions: &[Action]) -> usize {
        actions.iter().filter(|action| matches!(action, Action::Start { .. })).count()
    }

    /// A run of `copies` workers, none of which is ready.
    fn starting(copies: u16) -> Lifecycle {
        let mut lifecycle = Lifecycle::new(settings(copies, 1));
        lifecycle.start_all(at(0));
        lifecycle
    }

    fn reasons(lifecycle: &Lifecycle) -> Vec<(WorkerState, Option<String>)> {
        lifecycle.report().into_iter().map(|worker| (worker.state, worker.reason)).collect()
    }

    const WAITS: &str = "waits for 127.0.0.1:80, held by nginx (pid 7, user root)";

    #[test]
    fn a_held_address_is_no_crash() {
        let mut lifecycle = starting(1);
        let mut now = at(0);
        // More often than the limit of crashes.
        for instance in 1..20 {
            assert_eq!(lifecycle.port_held(&port(), now), []);
            lifecycle.exited(instance, Exit::Code(1), now);
            assert_eq!(reasons(&lifecycle), [(WorkerState::Waiting, Some(WAITS.into()))]);
            assert_eq!(lifecycle.report()[0].next_start, None);
            assert_eq!(lifecycle.awaited_ports(), ["127.0.0.1:80".to_owned()].into());
            assert_eq!(lifecycle.next_deadline(), Some(now + MAX_WAIT));
            now += MAX_WAIT;
            assert_eq!(starts(&lifecycle.tick(now)), 1);
            assert_eq!(lifecycle.awaited_ports(), [].into());
        }
        assert_eq!(lifecycle.report()[0].restarts, 0);
    }

    #[test]
    fn a_late_reason_explains_the_end() {
        let mut lifecycle = starting(2);
        lifecycle.exited(1, Exit::Code(1), at(10));
        assert_eq!(starts(&lifecycle.tick(at(10))), 1);
        lifecycle.exited(3, Exit::Code(1), at(20));
        let reported = lifecycle.port_held(&port(), at(30));
        assert_eq!(reported.len(), 1, "{reported:?}");
        assert_eq!(
            reasons(&lifecycle),
            [
                (WorkerState::Waiting, Some(WAITS.into())),
                (WorkerState::Starting, Some(WAITS.into()))
            ]
        );
        // The end of long ago has another reason.
        let mut lifecycle = starting(1);
        for instance in 1..=5 {
            lifecycle.exited(instance, Exit::Code(1), at(0));
            lifecycle.tick(lifecycle.next_start(1, false).unwrap());
        }
        lifecycle.exited(6, Exit::Code(1), at(0));
        let before = reasons(&lifecycle);
        assert_eq!(lifecycle.port_held(&port(), at(10_001)), []);
        assert_eq!(reasons(&lifecycle), before);
    }

    #[test]
    fn a_free_address_starts_the_workers() {
        let mut lifecycle = starting(3);
        lifecycle.listening(3, "a".into(), at(1));
        lifecycle.ready(3, at(1));
        lifecycle.port_held(&port(), at(2));
        lifecycle.exited(1, Exit::Code(1), at(3));
        lifecycle.exited(2, Exit::Code(1), at(3));
        assert_eq!(starts(&lifecycle.port_free("127.0.0.1:81", at(4))), 0);
        assert_eq!(starts(&lifecycle.port_free("127.0.0.1:80", at(5))), 2);
        // Ready: a later end is a crash.
        lifecycle.listening(4, "a".into(), at(6));
        lifecycle.ready(4, at(6));
        lifecycle.exited(4, Exit::Code(1), at(7));
        assert_eq!(lifecycle.report()[0].restarts, 1);
        assert_eq!(lifecycle.awaited_ports(), [].into());
    }
}
