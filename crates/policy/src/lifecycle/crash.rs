//! Crashes: when a worker starts again, and when the supervisor gives it up.

use std::time::Duration;

use super::canary::CANARY_RESTARTS;
use super::exit::Exit;
use super::instance::{Pause, Place};
use super::model::{Action, CanaryOutcome, ChangeReason, WorkerState};
use super::port_wait::{ended_lately, wait_for_port};
use super::state::Lifecycle;

/// Staying ready this long, and longer than the pause before, resets the crash counter.
pub const CRASH_RESET: Duration = Duration::from_secs(1);

/// The pause after the second consecutive crash. Each further crash doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);

const SIGKILL: u8 = 9;

/// The end of a worker without a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crash {
    /// How it ended.
    pub(super) exit: Exit,
    /// Whether it was ready.
    pub(super) was_ready: bool,
    /// Consecutive crashes before this one.
    pub(super) earlier: u32,
    /// The limit of consecutive restarts; `None`: no limit.
    pub(super) max_restarts: Option<u32>,
}

/// What follows from a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CrashVerdict {
    /// Start again after this pause.
    Restart(Duration),
    /// Do not start again.
    GiveUp,
}

impl Crash {
    /// Consecutive crashes, with this one. SIGKILL comes from outside: it is no fault of the worker.
    pub(super) fn count(&self) -> u32 {
        let is_fault = self.exit != Exit::Signal(SIGKILL);
        self.earlier.saturating_add(is_fault.into())
    }

    /// Decides. The first restart follows at once; but a worker that is killed before it is ready
    /// must not restart in a loop without pauses.
    pub(super) fn verdict(&self) -> CrashVerdict {
        let count = self.count();
        if count > self.earlier && self.max_restarts.is_some_and(|limit| count > limit) {
            return CrashVerdict::GiveUp;
        }
        let was_killed_early = count == self.earlier && !self.was_ready;
        let minimum = if was_killed_early { FIRST_PAUSE } else { Duration::ZERO };
        CrashVerdict::Restart(pause(count).max(minimum))
    }
}

/// The pause after this many consecutive crashes.
fn pause(crashes: u32) -> Duration {
    match crashes.checked_sub(2) {
        None => Duration::ZERO,
        Some(doublings) => {
            FIRST_PAUSE.saturating_mul(2u32.saturating_pow(doublings)).min(MAX_PAUSE)
        }
    }
}

/// Whether a worker that was ready for this long starts a new series of crashes. A worker whose pause
/// is long must stay ready longer, else it would soon crash at a high rate again.
pub(super) fn resets(ready_for: Duration, crashes: u32) -> bool {
    ready_for >= CRASH_RESET.max(pause(crashes))
}

impl Lifecycle {
    /// Plans the restart of a worker without instances.
    pub(super) fn count_crash(
        &mut self,
        place: Place,
        reason: ChangeReason,
        exit: Exit,
        was_ready: bool,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        if self.stopping {
            return;
        }
        if place.canary && self.canary_failed(place, &reason, now, actions) {
            return;
        }
        let max_restarts = match self.settings.max_restarts {
            None if place.canary => Some(CANARY_RESTARTS),
            limit => limit,
        };
        let Some(slot) = self.slots.get_mut(&place) else { return };
        if let Some(port) = slot.waits_for.clone() {
            slot.last_end = Some((now, reason));
            actions.push(wait_for_port(place, slot, &port, now));
            return;
        }
        let crash = Crash { exit, was_ready, earlier: slot.crashes, max_restarts };
        let earlier = if ended_lately(slot, now) { slot.unexplained } else { 0 };
        slot.unexplained = earlier + crash.count() - slot.crashes;
        slot.crashes = crash.count();
        slot.last_end = Some((now, reason.clone()));
        let (state, pause) = match crash.verdict() {
            CrashVerdict::GiveUp if place.canary => {
                let outcome = CanaryOutcome::Failed(place.ordinal, reason);
                return self.roll_back(outcome, now, actions);
            }
            CrashVerdict::GiveUp => (WorkerState::GivenUp, Pause::GivenUp(exit)),
            CrashVerdict::Restart(pause) => {
                slot.restarts += 1;
                (WorkerState::Waiting, Pause::Until(now + pause))
            }
        };
        slot.pause = Some(pause);
        // A restart at once needs no report: that of the end was the last word.
        if pause != Pause::Until(now) {
            actions.push(Action::Report(place.change(None, state, Some(reason))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CrashVerdict::{GiveUp, Restart};

    fn crash(earlier: u32, max_restarts: Option<u32>) -> Crash {
        Crash { exit: Exit::Code(1), was_ready: false, earlier, max_restarts }
    }

    fn after(milliseconds: u64) -> CrashVerdict {
        Restart(Duration::from_millis(milliseconds))
    }

    #[test]
    fn pauses_double_up_to_the_maximum() {
        let pauses = [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000];
        for (earlier, pause) in (0..).zip(pauses) {
            assert_eq!(crash(earlier, None).verdict(), after(pause), "{earlier}");
        }
        for earlier in [31, 32, 33, 1_000, u32::MAX] {
            assert_eq!(crash(earlier, None).verdict(), after(30_000), "{earlier}");
        }
    }

    #[test]
    fn the_limit_counts_restarts() {
        for (limit, earlier, verdict) in [
            (0, 0, GiveUp),
            (1, 0, after(0)),
            (1, 1, GiveUp),
            (5, 4, after(800)),
            (5, 5, GiveUp),
            (5, 6, GiveUp),
        ] {
            assert_eq!(crash(earlier, Some(limit)).verdict(), verdict, "{limit} {earlier}");
        }
    }

    #[test]
    fn sigkill_is_not_counted() {
        let killed = |earlier, was_ready, max_restarts| Crash {
            exit: Exit::Signal(SIGKILL),
            was_ready,
            earlier,
            max_restarts,
        };
        for (crash, count, verdict) in [
            (killed(0, true, None), 0, after(0)),
            (killed(0, false, None), 0, after(100)),
            (killed(0, true, Some(0)), 0, after(0)),
            (killed(4, false, Some(5)), 4, after(400)),
        ] {
            assert_eq!((crash.count(), crash.verdict()), (count, verdict), "{crash:?}");
        }
    }

    #[test]
    fn staying_ready_resets_the_counter() {
        for (ready_for, crashes, expected) in [
            (999, 0, false),
            (1_000, 0, true),
            (1_000, 5, true),
            (1_000, 7, false),
            (29_999, 40, false),
            (30_000, 40, true),
        ] {
            let ready_for = Duration::from_millis(ready_for);
            assert_eq!(resets(ready_for, crashes), expected, "{ready_for:?} {crashes}");
        }
    }
}
