//! The threads that answer workers, one for each worker.
//!
//! A call that is not received yet can be interrupted by a signal (EINTR, unless SA_RESTART), so it
//! must not wait for the supervisor's other work. An answer can block on memory or a descriptor of the
//! worker: then only this worker waits. Between workers, the kernel's scheduler is fair.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use sameport_sys::Errno;
use sameport_sys::seccomp::{ListenerWait, Notification, NotifyListener, StopSignal};
use tokio::sync::mpsc::Sender;

use super::outbox::Outbox;
use super::watchdog::{AnswerProgress, STACK, Watched};
use crate::event::{AnswerTrouble, RunEvent};
use crate::interpose::kept::KeptSockets;
use crate::report::Report;

/// Time for an answer that is under way when the threads are stopped.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Panics of one worker's answers, after which its calls are answered without a look at its sockets.
const MOST_PANICS: u32 = 3;

/// Pause after a failed wait: the kernel was out of memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers the calls of one worker and its children.
pub(super) trait Answer: Send + 'static {
    /// Answers one call. Returns a report for the supervisor.
    fn answer(
        &mut self,
        listener: &NotifyListener,
        notification: &Notification,
    ) -> Result<Option<Report>, Errno>;

    /// Answers one call without a look at the worker's socket.
    fn answer_unseen(
        &self,
        listener: &NotifyListener,
        notification: &Notification,
    ) -> Result<(), Errno>;
}

/// The supervisor's end. When it is dropped, each thread ends once no process of its worker is left.
#[derive(Debug)]
pub(super) struct AnswerThreads {
    stop: Arc<StopSignal>,
    watched: Arc<Watched>,
    /// Keeps the watchdog alive while there is no worker.
    _own: AnswerProgress,
    reports: Sender<Report>,
    kept: KeptSockets,
}

/// One thread's work.
struct AnswerLoop<A> {
    listener: NotifyListener,
    calls: A,
    stop: Arc<StopSignal>,
    progress: AnswerProgress,
    outbox: Outbox,
    panics: u32,
    /// Whether a failure has been reported.
    is_reported: bool,
}

impl AnswerThreads {
    /// Starts the watchdog. Threads send reports to `reports`, and give up following a socket of `kept`
    /// where the channel is full.
    pub(super) fn start(reports: Sender<Report>, kept: KeptSockets) -> io::Result<Self> {
        let watched = Arc::new(Watched::default());
        let own = watched.add();
        watched.watch(reports.clone())?;
        let stop = Arc::new(StopSignal::new()?);
        Ok(Self { stop, watched, _own: own, reports, kept })
    }

    /// Starts the thread of one more worker.
    pub(super) fn add(&self, listener: NotifyListener, calls: impl Answer) -> io::Result<()> {
        let answering = AnswerLoop {
            listener,
            calls,
            stop: Arc::clone(&self.stop),
            progress: self.watched.add(),
            outbox: Outbox::new(self.reports.clone(), self.kept.clone()),
            panics: 0,
            is_reported: false,
        };
        let builder = std::thread::Builder::new().name("answering".into());
        builder.stack_size(STACK).spawn(move || answering.run()).map(drop)
    }

    /// Ends the threads between two calls. Calls that have not been received stay as they are. `false`:
    /// an answer is blocked, and its thread is left.
    pub(super) fn stop(self) -> bool {
        self.stop.set();
        let watched = Arc::clone(&self.watched);
        drop(self);
        watched.wait_for_end(STOP_LIMIT)
    }
}

impl<A: Answer> AnswerLoop<A> {
    /// Answers until the last process of the worker has ended, or the threads are stopped.
    fn run(mut self) {
        loop {
            match self.step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(errno) => {
                    // The next attempt may succeed; without one, the worker's calls would wait for ever.
                    self.report(0, AnswerTrouble::Failed(errno.to_string()));
                    std::thread::sleep(PAUSE);
                }
            }
        }
        self.outbox.flush();
    }

    /// Waits for a call, and answers it. `false`: no other will be answered.
    fn step(&mut self) -> Result<bool, Errno> {
        match self.listener.wait(&self.stop, self.outbox.due())? {
            ListenerWait::Stopped | ListenerWait::Closed => return Ok(false),
            ListenerWait::TimedOut => {}
            ListenerWait::Notification => {
                if let Some(notification) = self.listener.receive()? {
                    self.progress.begin(notification.tid);
                    let answered = self.answer(&notification);
                    self.progress.end();
                    answered?;
                }
            }
        }
        self.outbox.flush_due();
        Ok(true)
    }

    fn answer(&mut self, notification: &Notification) -> Result<(), Errno> {
        let Self { listener, calls, .. } = self;
        let trouble = match self.panics < MOST_PANICS {
            true => match catch_unwind(AssertUnwindSafe(|| calls.answer(listener, notification))) {
                Ok(Ok(report)) => {
                    if let Some(report) = report {
                        self.outbox.push(report);
                    }
                    return Ok(());
                }
                Ok(Err(errno)) => AnswerTrouble::Failed(errno.to_string()),
                // Locks stay usable: the pool and the other shared states ignore a panic under them.
                Err(_) => {
                    self.panics += 1;
                    AnswerTrouble::Panicked
                }
            },
            false => AnswerTrouble::Panicked,
        };
        self.report(notification.tid, trouble);
        self.calls.answer_unseen(&self.listener, notification)
    }

    /// Reports the first failure of this worker's answers.
    fn report(&mut self, tid: i32, trouble: AnswerTrouble) {
        if !std::mem::replace(&mut self.is_reported, true) {
            self.outbox.push(Report::Event(RunEvent::AnswerTrouble { tid, trouble }));
        }
        self.outbox.flush();
    }
}

#[cfg(test)]
#[path = "answer_thread_tests.rs"]
mod tests;
