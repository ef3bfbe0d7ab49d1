//! Waiting for the notifications of several listeners at once.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, epoll};
use rustix::io::Errno;

use super::listener::{ListenerState, NotifyListener};

/// How many listeners one wait reports at most; the others are first at the next.
const AT_ONCE: usize = 16;

/// The key of the event that interrupts a wait.
const INTERRUPT: u64 = u64::MAX;

/// Listeners by key.
///
/// The set is level-triggered: a reported notification is there, so a receiver that takes one
/// notification for each report never blocks and needs no further `poll(2)`.
#[derive(Debug)]
pub struct ListenerSet {
    epoll: OwnedFd,
    interrupt: OwnedFd,
}

impl ListenerSet {
    /// Makes an empty set.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE, ENOMEM: a limit of descriptors or memory is reached.
    pub fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let interrupt = rustix::event::eventfd(0, flags)?;
        let data = epoll::EventData::new_u64(INTERRUPT);
        epoll::add(&epoll, &interrupt, data, epoll::EventFlags::IN)?;
        Ok(Self { epoll, interrupt })
    }

    /// Adds a listener under a key, which must not be `u64::MAX`.
    ///
    /// # Errors
    ///
    /// ENOSPC, ENOMEM: a limit is reached.
    pub fn add(&self, listener: &NotifyListener, key: u64) -> Result<(), Errno> {
        epoll::add(&self.epoll, listener, epoll::EventData::new_u64(key), epoll::EventFlags::IN)
    }

    /// Removes a listener. One that is only closed stays as long as a duplicate of it is open.
    pub fn remove(&self, listener: &NotifyListener) {
        // A listener that is not in the set needs nothing.
        let _ = epoll::delete(&self.epoll, listener);
    }

    /// Ends the current wait, or the next one.
    pub fn interrupt(&self) {
        // EAGAIN: the counter is full, so that a wait ends anyway.
        let _ = rustix::io::write(&self.interrupt, &1u64.to_ne_bytes());
    }

    /// Waits for notifications, or for a listener that no process can use any more; gives the keys.
    /// Returns without any after the timeout, and after [`Self::interrupt`].
    ///
    /// # Errors
    ///
    /// Those of `epoll_wait(2)`, without EINTR.
    pub fn wait(
        &self,
        timeout: Option<Duration>,
    ) -> Result<impl Iterator<Item = (u64, ListenerState)>, Errno> {
        let timeout = timeout.map(|timeout| rustix::event::Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut events = Vec::with_capacity(AT_ONCE);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if events.iter().any(|event: &epoll::Event| event.data.u64() == INTERRUPT) {
            let _ = rustix::io::read(&self.interrupt, &mut [0; 8]);
        }
        // The kernel's struct is packed.
        let events = events.into_iter().map(|event| (event.data.u64(), { event.flags }));
        Ok(events.filter(|(key, _)| *key != INTERRUPT).map(|(key, flags)| {
            match flags.contains(epoll::EventFlags::IN) {
                true => (key, ListenerState::Notification),
                false => (key, ListenerState::Closed),
            }
        }))
    }
}
