//! Ending the processes that outlived their worker: asked first, then made to.

use std::collections::BTreeSet;
use std::time::Duration;

use sameport_sys::process;

pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGKILL: i32 = 9;

/// How long they may take to end when asked, and then by SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How often new ones among them are looked for: a process that ends leaves its children to us.
const SWEEP: Duration = Duration::from_millis(100);

/// Processes on their way out.
#[derive(Debug)]
pub(crate) struct Termination {
    signal: i32,
    told: BTreeSet<i32>,
    next_sweep: Duration,
    until: Duration,
}

impl Termination {
    /// They are asked with this signal, from now on.
    pub(crate) fn new(signal: i32, now: Duration) -> Self {
        Self { signal, told: BTreeSet::new(), next_sweep: now, until: now + GRACE }
    }

    /// When to call [`Self::sweep`] next.
    pub(crate) fn next_sweep(&self) -> Duration {
        self.next_sweep
    }

    /// Signals descendants who has not been told yet. `false` once their time is over and they have
    /// not even ended by SIGKILL.
    pub(crate) fn sweep(&mut self, now: Duration) -> bool {
        now < self.next_sweep || self.sweep_these(&descendants(), now)
    }

    /// The same, of these only.
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
            if self.told.insert(*pid) {
                // It may have ended since it was seen. The number is nobody else's: only its
                // parent frees it, which is us or another descendant of ours.
                let _ = process::signal(*pid, self.signal);
            }
        }
        true
    }
}

/// Every process that workers started and that lives, or has not been reaped.
pub(crate) fn descendants() -> Vec<i32> {
    process::descendants(std::process::id().cast_signed())
}
