//! Waiting for the readiness of one descriptor, outside the event loop.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// Waits until the descriptor is readable, for at most `timeout`. Returns `false` on timeout and if
/// `poll(2)` fails.
pub fn wait_readable(fd: impl AsFd, timeout: Duration) -> bool {
    poll(&fd, PollFlags::IN, timeout).is_ok_and(|events| !events.is_empty())
}

/// Waits until no reader is left (the other end of the pipe is closed, the terminal is gone), for at
/// most `timeout`. Returns `false` on timeout and, after the same time, if `poll(2)` fails.
pub fn wait_hangup(fd: impl AsFd, timeout: Duration) -> bool {
    let start = Instant::now();
    loop {
        let rest = timeout.saturating_sub(start.elapsed());
        // POLLHUP and POLLERR are reported without being requested.
        match poll(&fd, PollFlags::empty(), rest) {
            Err(Errno::INTR) => {}
            Ok(events) => return !events.is_empty(),
            Err(_) => {
                std::thread::sleep(rest);
                return false;
            }
        }
    }
}

/// Whether the descriptor is readable (POLLIN) or hung up (POLLHUP, POLLERR) now.
pub(crate) fn poll_now(fd: impl AsFd) -> Result<PollFlags, Errno> {
    poll(&fd, PollFlags::IN, Duration::ZERO)
}

fn poll(fd: &impl AsFd, events: PollFlags, timeout: Duration) -> Result<PollFlags, Errno> {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    let mut fds = [PollFd::new(fd, events)];
    rustix::event::poll(&mut fds, Some(&timeout))?;
    Ok(fds[0].revents())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_read_end_is_a_hangup() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(!wait_hangup(&writer, Duration::from_millis(1)));
        drop(reader);
        // Returns long before the timeout.
        assert!(wait_hangup(&writer, Duration::from_secs(3600)));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(!wait_hangup(&file, Duration::ZERO));
    }
}
