//! Ends processes: a signal first, SIGKILL after a grace period.

use std::collections::BTreeSet;
use std::time::Duration;

use sameport_sys::process;

pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGKILL: i32 = 9;

/// Time to end after the first signal, and again after SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// Interval of sweeps for new processes: one that ends leaves its children to the supervisor.
const SWEEP: Duration = Duration::from_millis(100);

/// Processes that are being ended.
#[derive(Debug)]
pub(crate) struct Termination {
    signal: i32,
    signalled: BTreeSet<i32>,
    next_sweep: Duration,
    until: Duration,
}

impl Termination {
    pub(crate) fn new(signal: i32, now: Duration) -> Self {
        Self { signal, signalled: BTreeSet::new(), next_sweep: now, until: now + GRACE }
    }

    /// When to sweep next.
    pub(crate) fn next_sweep(&self) -> Duration {
        self.next_sweep
    }

    /// Signals every descendant of the supervisor that was not signalled yet. `false` if some
    /// survived SIGKILL for the grace period.
    pub(crate) fn sweep(&mut self, now: Duration) -> bool {
        now < self.next_sweep || self.sweep_these(&descendants(), now)
    }

    /// [`Self::sweep`] for these processes only.
    pub(crate) fn sweep_these(&mut self, pids: &[i32], now: Duration) -> bool {
        if now < self.next_sweep {
            return true;
        }
        self.next_sweep = now + SWEEP;
        if now >= self.until {
            if self.signal == SIGKILL {
                return false;
            }
            *self = Self { next_sweep: self.next_sweep, ..Self::new(SIGKILL, now) };
        }
        for pid in pids {
            if self.signalled.insert(*pid) {
                // The process may have ended. Its pid is not reused: only its parent frees it, which is
                // the supervisor or another descendant.
                let _ = process::signal(*pid, self.signal);
            }
        }
        true
    }
}

/// All processes that workers started and that live or are not reaped.
pub(crate) fn descendants() -> Vec<i32> {
    process::descendants(std::process::id().cast_signed())
}
