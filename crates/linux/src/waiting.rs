//! Waiting for a descriptor, in threads that do nothing else.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

/// Waits until there is something to read, at most this long. A failure to wait counts as nothing.
pub fn readable(fd: impl AsFd, at_most: Duration) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let at_most = Timespec {
        tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(at_most.subsec_nanos()),
    };
    rustix::event::poll(&mut fds, Some(&at_most)).is_ok_and(|ready| ready > 0)
}
