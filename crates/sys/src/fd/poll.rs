//! Waiting for the readiness of one descriptor, outside the event loop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// Waits until the descriptor is readable, for at most `timeout`. Returns `false` on timeout and if
/// `poll(2)` fails.
pub fn wait_readable(fd: impl AsFd, timeout: Duration) -> bool {
    poll(&fd, PollFlags::IN, timeout).is_ok_and(|events| !events.is_empty())
}

/// Waits until one of the descriptors is readable or hung up, for at most `timeout`. Returns which are; none on
/// timeout and if a signal interrupts the wait.
///
/// # Errors
///
/// Errors of `poll(2)` other than EINTR.
pub fn wait_any<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    timeout: Duration,
) -> io::Result<[bool; N]> {
    let mut polled = fds.each_ref().map(|fd| PollFd::new(fd, PollFlags::IN));
    match rustix::event::poll(&mut polled, Some(&timespec(timeout))) {
        Ok(_) => Ok(polled.map(|fd| !fd.revents().is_empty())),
        Err(Errno::INTR) => Ok([false; N]),
        Err(errno) => Err(errno.into()),
    }
}

/// [`wait_any`] for a number of descriptors that is not known before. Without `timeout` there is none.
///
/// # Errors
///
/// Errors of `poll(2)` other than EINTR.
pub fn wait_each(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    match rustix::event::poll(&mut polled, timeout.map(timespec).as_ref()) {
        Ok(_) => Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
        Err(Errno::INTR) => Ok(vec![false; fds.len()]),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits until the descriptor is writable or hung up, without a limit. Returns `false` if `poll(2)` fails.
pub fn wait_writable(fd: impl AsFd) -> bool {
    loop {
        match rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None) {
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
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
    let timeout = timespec(timeout);
    let mut fds = [PollFd::new(fd, events)];
    rustix::event::poll(&mut fds, Some(&timeout))?;
    Ok(fds[0].revents())
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readable_ones_of_several_are_known() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (silent, silent_writer) = std::io::pipe().unwrap();
        let none = wait_any([reader.as_fd(), silent.as_fd()], Duration::from_millis(1));
        assert_eq!(none.unwrap(), [false, false]);
        std::io::Write::write_all(&mut writer, b"!").unwrap();
        let wait = || wait_any([reader.as_fd(), silent.as_fd()], Duration::from_secs(3600));
        assert_eq!(wait().unwrap(), [true, false]);
        drop(silent_writer);
        assert_eq!(wait().unwrap(), [true, true]);
    }

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
