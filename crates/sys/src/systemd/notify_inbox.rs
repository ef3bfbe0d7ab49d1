//! Reads NOTIFY_SOCKET on a thread of its own.
//!
//! Every user can send descriptors. The kernel closes what the receiver has no room for in the thread
//! that receives, and that close can block (SO_LINGER, FUSE): it blocks this thread alone. Descriptors
//! cannot be refused, because `systemd-notify` waits for the close of one (`BARRIER=1`). The thread has a
//! descriptor table of its own: a worker that starts meanwhile must not inherit them.

#![expect(
    unsafe_code,
    reason = "a stable descriptor for tokio; descriptors that a thread has taken along"
)]

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, AsRawFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::mpsc;
use std::sync::{Arc, atomic};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::notify_socket::{NotifyRecord, NotifySocket};
use crate::fd::{closes_are_stuck, own_table};
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
    arrived: OwnedFd,
    /// Readable when the thread has to end.
    stop: OwnedFd,
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
            rustix::event::eventfd(0, flags)
        };
        let (arrived, stop, stopped) = (event()?, event()?, Arc::default());
        let (sender, records) = mpsc::channel();
        let name = socket.name().to_owned();
        let inbox = Self {
            name,
            arrived: arrived.try_clone()?,
            stop: stop.try_clone()?,
            stopped: Arc::clone(&stopped),
            records,
        };
        let of_thread = [socket.as_raw_fd(), arrived.as_raw_fd(), stop.as_raw_fd()];
        let (report, has_own_table) = mpsc::sync_channel(1);
        masked_thread::start("notifications", STACK, move || {
            let _ = report.send(own_table::leave_shared(&of_thread).is_ok());
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
        if has_own_table.recv() == Ok(true) {
            for number in of_thread {
                // SAFETY: the thread owns the descriptor of this number in its own table. In the table of
                // this thread nothing else owns or closes the number.
                drop(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
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
