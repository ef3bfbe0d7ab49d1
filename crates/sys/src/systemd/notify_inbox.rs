//! Reads NOTIFY_SOCKET on a thread of its own.
//!
//! Every user can send descriptors. The kernel closes what the receiver has no room for in the thread
//! that receives, and that close can block (SO_LINGER, FUSE): it blocks this thread alone. Descriptors
//! cannot be refused, because `systemd-notify` waits for the close of one (`BARRIER=1`).

#![expect(unsafe_code, reason = "tokio requires a stable descriptor")]

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd, RawFd};
use std::sync::mpsc;
use std::sync::{Arc, atomic};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::notify_socket::{NotifyRecord, NotifySocket};
use crate::fd::closes_are_stuck;
use crate::process::masked_thread;

/// Stack of the thread, in bytes.
const STACK: usize = 256 * 1024;

/// Pause while received descriptors cannot be closed.
const PAUSE: Duration = Duration::from_millis(20);

/// The messages that a [`NotifySocket`] has received.
#[derive(Debug)]
pub struct NotifyInbox {
    name: OsString,
    /// Readable when there are messages.
    arrived: Arc<OwnedFd>,
    /// Readable when the thread has to end.
    stop: Arc<OwnedFd>,
    stopped: Arc<atomic::AtomicBool>,
    records: mpsc::Receiver<NotifyRecord>,
}

impl NotifyInbox {
    /// Starts to read.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE, EAGAIN: too many open descriptors or processes.
    pub fn start(mut socket: NotifySocket) -> std::io::Result<Self> {
        let event = || {
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            rustix::event::eventfd(0, flags).map(Arc::new)
        };
        let (arrived, stop, stopped) = (event()?, event()?, Arc::default());
        let (sender, records) = mpsc::channel();
        let name = socket.name().to_owned();
        let inbox = Self {
            name,
            arrived: Arc::clone(&arrived),
            stop: Arc::clone(&stop),
            stopped: Arc::clone(&stopped),
            records,
        };
        masked_thread::start("notifications", STACK, move || {
            let is_stopped = || stopped.load(atomic::Ordering::Acquire);
            while !is_stopped() {
                while closes_are_stuck() && !is_stopped() {
                    std::thread::sleep(PAUSE);
                }
                let mut fds = [
                    PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
                    PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
                ];
                if rustix::event::poll(&mut fds, None).is_err() {
                    // EINTR, or no memory for the moment.
                    std::thread::sleep(PAUSE);
                    continue;
                }
                let records = socket.take();
                if !records.is_empty() {
                    records.into_iter().for_each(|record| drop(sender.send(record)));
                    // EAGAIN: the counter is full, so that it is readable.
                    let _ = rustix::io::write(&arrived, &1u64.to_ne_bytes());
                }
            }
        })?;
        Ok(inbox)
    }

    /// Registers the inbox with the current tokio runtime.
    ///
    /// # Errors
    ///
    /// Errors of `epoll_ctl(2)`.
    pub fn into_async(self) -> std::io::Result<AsyncFd<Self>> {
        // SAFETY: `NotifyInbox` shares the ownership of its descriptor and never replaces it, so the
        // descriptor stays open and the same for as long as the `AsyncFd` has it.
        unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }.map_err(Into::into)
    }

    /// The value of NOTIFY_SOCKET for workers.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The messages of descendants since the last call, without waiting.
    pub fn take(&mut self) -> Vec<NotifyRecord> {
        let _ = rustix::io::read(&self.arrived, &mut [0; 8]);
        self.records.try_iter().collect()
    }
}

impl AsRawFd for NotifyInbox {
    fn as_raw_fd(&self) -> RawFd {
        self.arrived.as_raw_fd()
    }
}

impl Drop for NotifyInbox {
    fn drop(&mut self) {
        self.stopped.store(true, atomic::Ordering::Release);
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }
}
