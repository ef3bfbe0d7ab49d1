//! The wait for the lock of the states, which ends where its holder does nothing.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// How long one process may hold the lock. Programs are loaded in some 100 ms, on a busy machine in seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Why the lock could not be taken.
#[derive(Debug)]
pub(super) enum LockFailure {
    /// flock(2).
    Call(Errno),
    /// This process had it all the time; `None` if the kernel names none in this pid namespace.
    Held(Option<i32>),
}

/// Takes the exclusive lock of a file. A process that is stopped keeps it for ever, and a supervisor that waits
/// for it starts no worker, so the wait is limited: to `patience` for each holder.
pub(super) fn lock(file: &File, patience: Duration) -> Result<(), LockFailure> {
    let (mut holder, mut since) = (None, Instant::now());
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {}
            Err(Errno::INTR) => continue,
            result => return result.map_err(LockFailure::Call),
        }
        let now = holder_of(file);
        if now != holder {
            (holder, since) = (now, Instant::now());
        }
        if since.elapsed() >= patience {
            return Err(LockFailure::Held(holder));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The process that has the lock, from /proc/locks (proc(5)).
fn holder_of(file: &File) -> Option<i32> {
    let found = file.metadata().ok()?;
    let (major, minor) = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
    let id = format!("{major:02x}:{minor:02x}:{}", found.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        // A process that waits has `->` here.
        (words.next()? == "FLOCK").then_some(())?;
        let (pid, of) = (words.nth(2)?, words.next()?);
        (of == id).then(|| pid.parse().ok().filter(|pid| *pid > 0)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_that_does_nothing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let open = || File::open(directory.path()).unwrap();
        let (first, second) = (open(), open());
        lock(&first, Duration::ZERO).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        match lock(&second, Duration::from_millis(30)) {
            Err(LockFailure::Held(holder)) => assert_eq!(holder, Some(own)),
            other => panic!("{other:?}"),
        }
        drop(first);
        lock(&second, Duration::ZERO).unwrap();
    }
}
