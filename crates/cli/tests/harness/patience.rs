//! Limits of waits that do not depend on the load of the machine, and the end of threads that a test starts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Sets a flag when it is dropped, also by a failed assertion: the threads that the flag ends are joined
/// before the failure is reported.
pub(crate) struct SetAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How much longer than its limit a wait without progress can last on a busy machine.
const LONGEST: u32 = 10;

/// The limit of one wait. The time in which a processor had something to do does not count, because
/// what the test waits for can be in the queue of the scheduler. Without this, a limit is too short on
/// some machine, or a failure takes minutes on every other one.
pub(crate) struct Patience {
    limit: Duration,
    begin: Instant,
    idle: Option<Duration>,
    progress: usize,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, begin: Instant::now(), idle: idle_time(), progress: 0 }
    }

    /// Restarts the limit if this number differs from that of the last call.
    pub(crate) fn restart_on(&mut self, progress: usize) {
        if progress != self.progress {
            *self = Self { progress, ..Self::new(self.limit) };
        }
    }

    /// Whether the processors were idle for the limit, or ten times the limit has passed.
    pub(crate) fn is_over(&self) -> bool {
        let elapsed = self.begin.elapsed();
        if elapsed < self.limit {
            return false;
        }
        // Without the counters, all time counts.
        let idle = idle_time().zip(self.idle).map(|(now, begin)| now.saturating_sub(begin));
        elapsed >= self.limit * LONGEST || idle.is_none_or(|idle| idle >= self.limit)
    }
}

/// The idle time of a processor since the boot, on average. The time that waits for a disk is not in it.
fn idle_time() -> Option<Duration> {
    /// USER_HZ, the same on every architecture that Rust supports: proc_stat(5).
    const TICKS_PER_SECOND: u64 = 100;
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let processors = text.lines().filter(|line| line.starts_with("cpu")).count() - 1;
    let ticks: u64 = text.lines().next()?.split_whitespace().nth(4)?.parse().ok()?;
    let idle = Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
    idle.checked_div(u32::try_from(processors).ok()?)
}
