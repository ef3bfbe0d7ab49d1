//! Waiting for the next notification of one listener, or for the order to stop.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::listener::NotifyListener;

/// Ends the waits of any number of threads, for good (`eventfd(2)`).
#[derive(Debug)]
pub struct StopSignal(OwnedFd);

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerWait {
    /// A notification can be received, without waiting.
    Notification,
    /// No process with this filter is left.
    Closed,
    /// [`StopSignal::set`] was called.
    Stopped,
    /// The time is over, or a signal interrupted the wait.
    TimedOut,
}

impl StopSignal {
    /// Makes a signal that is not set.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE, ENOMEM: a limit of descriptors or memory is reached.
    pub fn new() -> Result<Self, Errno> {
        rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Self)
    }

    /// Ends the present and all later waits. They leave notifications that are not received alone.
    pub fn set(&self) {
        // EAGAIN: the counter is full, so that every wait ends anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl NotifyListener {
    /// Waits for a notification (`poll(2)`; POLLHUP since Linux 5.8); without a timeout, for ever.
    ///
    /// # Errors
    ///
    /// ENOMEM: the kernel has no memory for the wait.
    pub fn wait(
        &self,
        stop: &StopSignal,
        timeout: Option<Duration>,
    ) -> Result<ListenerWait, Errno> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut fds = [
            PollFd::from_borrowed_fd(stop.0.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.as_fd(), PollFlags::IN),
        ];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(ListenerWait::TimedOut),
            Err(errno) => return Err(errno),
        }
        let [stopped, listener] = fds.map(|fd| fd.revents());
        Ok(match () {
            () if !stopped.is_empty() => ListenerWait::Stopped,
            () if listener.contains(PollFlags::IN) => ListenerWait::Notification,
            () if !listener.is_empty() => ListenerWait::Closed,
            () => ListenerWait::TimedOut,
        })
    }
}
