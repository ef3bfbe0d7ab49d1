//! The thread that answers workers.
//!
//! A call that is not received yet can be interrupted by a signal (EINTR, unless SA_RESTART), so it
//! must not wait for the supervisor's other work.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::mpsc::TryRecvError;
use std::thread::JoinHandle;

use sameport_sys::Errno;
use sameport_sys::seccomp::{ListenerSet, ListenerState, NotifyListener};

use super::handler::NotificationHandler;

/// The supervisor's end.
#[derive(Debug)]
pub(super) struct AnswerThread {
    shared: Arc<Shared>,
    workers: mpsc::Sender<(u64, Worker)>,
    keys: AtomicU64,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    listeners: ListenerSet,
    stop: AtomicBool,
}

/// A worker with its children.
#[derive(Debug)]
struct Worker {
    listener: NotifyListener,
    handler: NotificationHandler,
}

impl AnswerThread {
    pub(super) fn start() -> io::Result<Self> {
        let stop = AtomicBool::new(false);
        let shared = Arc::new(Shared { listeners: ListenerSet::new()?, stop });
        let (workers, new) = mpsc::channel();
        let its = Arc::clone(&shared);
        // A failed wait leaves the workers' calls to the kernel, which fails them with ENOSYS.
        let answering = move || {
            let _ = answer_all(&its, &new);
        };
        let thread = std::thread::Builder::new().name("answering".into()).spawn(answering)?;
        Ok(Self { shared, workers, keys: AtomicU64::new(0), thread })
    }

    /// Answers one more worker.
    pub(super) fn add(
        &self,
        listener: NotifyListener,
        handler: NotificationHandler,
    ) -> Result<(), Errno> {
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        self.shared.listeners.add(&listener, key)?;
        // The thread lives at least as long as this value.
        drop(self.workers.send((key, Worker { listener, handler })));
        self.shared.listeners.interrupt();
        Ok(())
    }

    /// Lets the thread end once no process of a worker is left.
    pub(super) fn no_more_workers(self) {
        drop(self.workers);
        self.shared.listeners.interrupt();
    }

    /// Ends the thread between two calls. Calls that have not been received stay as they are.
    pub(super) fn stop(self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.listeners.interrupt();
        // A panic of the thread has been reported already.
        let _ = self.thread.join();
    }
}

/// Answers workers until none is left and no other can come, or the thread is stopped.
fn answer_all(shared: &Shared, new: &mpsc::Receiver<(u64, Worker)>) -> Result<(), Errno> {
    let mut workers: HashMap<u64, Worker> = HashMap::new();
    let mut may_grow = true;
    while may_grow || !workers.is_empty() {
        let events = shared.listeners.wait(None)?;
        if shared.stop.load(Ordering::Acquire) {
            break;
        }
        while may_grow {
            match new.try_recv() {
                Ok((key, worker)) => drop(workers.insert(key, worker)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => may_grow = false,
            }
        }
        for (key, state) in events {
            // A listener can be reported before its worker has arrived; then once more.
            let Some(worker) = workers.get(&key) else { continue };
            if state == ListenerState::Closed || worker.answer_next().is_err() {
                shared.listeners.remove(&worker.listener);
                workers.remove(&key);
            }
        }
    }
    Ok(())
}

impl Worker {
    /// Answers one call. There is one: the listener was reported.
    fn answer_next(&self) -> Result<(), Errno> {
        match self.listener.receive()? {
            Some(notification) => self.handler.answer(&self.listener, &notification),
            None => Ok(()),
        }
    }
}
