//! The thread that answers workers.
//!
//! A call that is not received yet can be interrupted by a signal (EINTR, unless SA_RESTART), so it
//! must not wait for the supervisor's other work.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sameport_sys::Errno;
use sameport_sys::process::LastThread;
use sameport_sys::seccomp::{ListenerSet, ListenerState, NotifyListener};
use tokio::sync::mpsc::Sender;

use super::handler::NotificationHandler;
use crate::interpose::kept::KeptSockets;
use crate::report::Report;

/// The supervisor's end. When it is dropped, the thread ends once no process of a worker is left.
#[derive(Debug)]
pub(super) struct AnswerThread {
    shared: Arc<Shared>,
    workers: mpsc::Sender<(u64, Worker)>,
    keys: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    listeners: ListenerSet,
    /// No other worker will come.
    is_last: AtomicBool,
    stop: AtomicBool,
}

/// A worker with its children.
#[derive(Debug)]
struct Worker {
    listener: NotifyListener,
    handler: NotificationHandler,
    last_thread: LastThread,
}

/// Reports that wait to be sent together: one wakes the supervisor as well as many.
#[derive(Debug)]
struct Outbox {
    sender: Sender<Report>,
    kept: KeptSockets,
    reports: Vec<Report>,
    since: Instant,
}

impl AnswerThread {
    /// Starts the thread, which sends reports to `sender` and gives up following a socket of `kept`
    /// where the channel is full.
    pub(super) fn start(sender: Sender<Report>, kept: KeptSockets) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            listeners: ListenerSet::new()?,
            is_last: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let (workers, new) = mpsc::channel();
        let its = Arc::clone(&shared);
        let outbox = Outbox { sender, kept, reports: Vec::new(), since: Instant::now() };
        let answering = move || {
            // A failed wait leaves the workers' calls to the kernel, which fails them with ENOSYS.
            let _ = answer_all(&its, &new, outbox);
        };
        let thread = std::thread::Builder::new().name("answering".into()).spawn(answering)?;
        Ok(Self { shared, workers, keys: AtomicU64::new(0), thread: Some(thread) })
    }

    /// Answers one more worker.
    pub(super) fn add(
        &self,
        listener: NotifyListener,
        handler: NotificationHandler,
    ) -> Result<(), Errno> {
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        self.shared.listeners.add(&listener, key)?;
        let worker = Worker { listener, handler, last_thread: LastThread::default() };
        // The thread lives at least as long as this value.
        drop(self.workers.send((key, worker)));
        self.shared.listeners.interrupt();
        Ok(())
    }

    /// Ends the thread between two calls. Calls that have not been received stay as they are.
    pub(super) fn stop(mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.listeners.interrupt();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported already.
            let _ = thread.join();
        }
    }
}

impl Drop for AnswerThread {
    fn drop(&mut self) {
        self.shared.is_last.store(true, Ordering::Release);
        self.shared.listeners.interrupt();
    }
}

/// Answers workers until the last one has ended, or the thread is stopped.
fn answer_all(
    shared: &Shared,
    new: &mpsc::Receiver<(u64, Worker)>,
    mut outbox: Outbox,
) -> Result<(), Errno> {
    let mut workers: HashMap<u64, Worker> = HashMap::new();
    loop {
        let events = shared.listeners.wait(outbox.due())?;
        if shared.stop.load(Ordering::Acquire) {
            break;
        }
        // Before the channel is read: a worker that came before the last one is in it.
        let is_last = shared.is_last.load(Ordering::Acquire);
        workers.extend(new.try_iter());
        for (key, state) in events {
            // A listener can be reported before its worker has arrived; then it is reported again.
            let Some(worker) = workers.get_mut(&key) else { continue };
            let answered = match state {
                ListenerState::Notification => worker.answer_next(),
                ListenerState::Closed => Err(Errno::NOENT),
            };
            match answered {
                Ok(report) => outbox.push(report),
                Err(_) => {
                    shared.listeners.remove(&worker.listener);
                    workers.remove(&key);
                }
            }
        }
        outbox.flush_due();
        if is_last && workers.is_empty() {
            break;
        }
    }
    outbox.flush();
    Ok(())
}

impl Worker {
    /// Answers one call. There is one: the listener was reported.
    fn answer_next(&mut self) -> Result<Option<Report>, Errno> {
        match self.listener.receive()? {
            Some(notification) => {
                self.handler.answer(&self.listener, &notification, &mut self.last_thread)
            }
            None => Ok(None),
        }
    }
}

impl Outbox {
    /// How long a report waits for others.
    const DELAY: Duration = Duration::from_millis(1);
    /// How many reports wait.
    const MOST: usize = 256;

    fn push(&mut self, report: Option<Report>) {
        let Some(report) = report else { return };
        if self.reports.is_empty() {
            self.since = Instant::now();
        }
        self.reports.push(report);
    }

    /// How long the thread may wait for the next call.
    fn due(&self) -> Option<Duration> {
        (!self.reports.is_empty()).then(|| Self::DELAY.saturating_sub(self.since.elapsed()))
    }

    fn flush_due(&mut self) {
        let is_due = self.reports.len() >= Self::MOST || self.since.elapsed() >= Self::DELAY;
        if is_due {
            self.flush();
        }
    }

    /// A full channel loses a report, never an answer; the socket is not followed then.
    fn flush(&mut self) {
        for report in self.reports.drain(..) {
            if let Err(lost) = self.sender.try_send(report)
                && let Report::CallAnswered(call) = lost.into_inner()
            {
                self.kept.lose(call.inode);
            }
        }
    }
}
