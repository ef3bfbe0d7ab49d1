//! Reports answers that take too long. An answer reads memory and descriptors of the worker, and a
//! file system of another user can delay such a read for ever (FUSE, a network file system).

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use crate::event::{AnswerTrouble, RunEvent};
use crate::report::Report;

/// An answer that takes longer is reported, once.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// Stack of each thread, in bytes: 1,024 workers take 512 MiB of address space, and little memory.
pub(super) const STACK: usize = 512 * 1024;

/// Interval of the checks.
const INTERVAL: Duration = Duration::from_secs(1);

/// The answering threads: how many there are, and what each does.
#[derive(Debug, Default)]
pub(super) struct Watched {
    threads: Mutex<Threads>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Threads {
    /// Number of [`AnswerProgress`] values that are alive.
    count: usize,
    calls: Vec<Weak<CurrentCall>>,
}

/// The call that a thread answers.
#[derive(Debug)]
struct CurrentCall {
    clock: Instant,
    /// Start of the answer, in milliseconds of the clock; 0 while the thread waits for a call, and after
    /// the answer has been reported as slow.
    since: AtomicU64,
    tid: AtomicI32,
}

/// One thread's entry, removed on drop.
#[derive(Debug)]
pub(super) struct AnswerProgress {
    watched: Arc<Watched>,
    call: Arc<CurrentCall>,
}

impl Watched {
    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a thread.
    pub(super) fn add(self: &Arc<Self>) -> AnswerProgress {
        let call = Arc::new(CurrentCall {
            clock: Instant::now(),
            since: AtomicU64::new(0),
            tid: AtomicI32::new(0),
        });
        let mut threads = self.threads();
        threads.count += 1;
        threads.calls.push(Arc::downgrade(&call));
        AnswerProgress { watched: Arc::clone(self), call }
    }

    /// Waits until no thread is left, for at most `timeout`. `false`: a thread is left.
    pub(super) fn wait_for_end(&self, timeout: Duration) -> bool {
        let is_left = |threads: &mut Threads| threads.count > 0;
        let waited = self.ended.wait_timeout_while(self.threads(), timeout, is_left);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Reports slow answers to `sender`, on a thread of its own, until no answering thread is left.
    pub(super) fn watch(self: &Arc<Self>, sender: Sender<Report>) -> io::Result<()> {
        let watched = Arc::clone(self);
        let watching = move || {
            while !watched.wait_for_end(INTERVAL) {
                for tid in watched.slow() {
                    let trouble = AnswerTrouble::Slow(LIMIT);
                    let event = RunEvent::AnswerTrouble { tid, trouble };
                    // With a full channel, the supervisor has enough to report.
                    drop(sender.try_send(Report::Event(event)));
                }
            }
        };
        let builder = std::thread::Builder::new().name("watchdog".into());
        builder.stack_size(STACK).spawn(watching).map(drop)
    }

    /// The threads of workers whose answer takes too long, each once.
    fn slow(&self) -> Vec<i32> {
        let mut threads = self.threads();
        threads.calls.retain(|call| call.strong_count() > 0);
        let calls = threads.calls.iter().filter_map(Weak::upgrade);
        calls.filter_map(|call| call.slow()).collect()
    }
}

impl CurrentCall {
    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn slow(&self) -> Option<i32> {
        let since = self.since.load(Ordering::Acquire);
        let limit = u64::try_from(LIMIT.as_millis()).unwrap_or(u64::MAX);
        let is_slow = since > 0 && self.now().saturating_sub(since) >= limit;
        // The answer may have ended, and another begun, since the first load.
        let taken = is_slow
            && self.since.compare_exchange(since, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        taken.then(|| self.tid.load(Ordering::Acquire))
    }
}

impl AnswerProgress {
    /// The thread begins to answer a call of this thread of the worker.
    pub(super) fn begin(&self, tid: i32) {
        self.call.tid.store(tid, Ordering::Release);
        self.call.since.store(self.call.now(), Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.call.since.store(0, Ordering::Release);
    }
}

impl Drop for AnswerProgress {
    fn drop(&mut self) {
        self.watched.threads().count -= 1;
        self.watched.ended.notify_all();
    }
}
