//! Waiting for a descriptor, in threads that do nothing else.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// Waits until there is something to read, at most this long. A failure to wait counts as nothing.
pub fn readable(fd: impl AsFd, at_most: Duration) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&timespec(at_most))).is_ok_and(|ready| ready > 0)
}

/// Waits this long, or until nobody can read any more what is written there: the other end of the pipe
/// is closed, the terminal is gone. Whether that is so.
pub fn is_unread(fd: impl AsFd, within: Duration) -> bool {
    let begun = Instant::now();
    loop {
        let rest = within.saturating_sub(begun.elapsed());
        let mut fds = [PollFd::new(&fd, PollFlags::empty())];
        match rustix::event::poll(&mut fds, Some(&timespec(rest))) {
            Err(Errno::INTR) => {}
            Ok(ready) => return ready > 0,
            Err(_) => {
                std::thread::sleep(rest);
                return false;
            }
        }
    }
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
    fn a_reader_that_leaves_is_noticed() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(!is_unread(&writer, Duration::from_millis(1)));
        drop(reader);
        // It would be long.
        assert!(is_unread(&writer, Duration::from_secs(3600)));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(!is_unread(&file, Duration::ZERO));
    }
}
