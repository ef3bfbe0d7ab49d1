//! Processes that exist to be looked into, and to look: the only way to learn what the kernel
//! permits between processes.
#![expect(unsafe_code, reason = "fork, and what is safe between it and the end of the child")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal};

/// A child that sleeps until it is dropped; killed and reaped then, also if this thread dies first.
pub(super) struct Sleeper {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Sleeper {
    pub(super) fn start() -> io::Result<Self> {
        let parent = rustix::process::getpid();
        let pid = fork(|| sleep_below(parent))?;
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self { pid, pidfd }),
            Err(error) => {
                // Its pid cannot have been given to another: it is our child and not reaped.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
                reap(pid)?;
                Err(error.into())
            }
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// `pidfd_getfd` by its parent, of a descriptor that the caller had before it started this.
    pub(super) fn duplicate(&self, fd: &OwnedFd) -> io::Result<()> {
        let flags = rustix::process::PidfdGetfdFlags::empty();
        rustix::process::pidfd_getfd(self.pidfd.as_fd(), fd.as_raw_fd(), flags)?;
        Ok(())
    }

    /// The same from a second child, which is not an ancestor of this one but of the same user.
    pub(super) fn duplicate_from_sibling(&self, fd: &OwnedFd) -> io::Result<()> {
        let (pidfd, number) = (self.pidfd.as_raw_fd(), fd.as_raw_fd());
        let sibling = fork(|| {
            // SAFETY: one system call on numbers.
            let result = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, number, 0) };
            if result >= 0 {
                return 0;
            }
            io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
        })?;
        match reap(sibling)? {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::Error::other("the asking process was killed")),
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL);
        let _ = reap(self.pid);
    }
}

/// Waits for the end of a child: its exit code, if it was not killed.
fn reap(pid: Pid) -> io::Result<Option<i32>> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status.exit_status()),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CHILD) => {
                return Err(io::Error::other("SIGCHLD is ignored, so that its answer was lost"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Forks a child that runs `work`, exits with what it returns, and never returns from here. `work`
/// makes system calls and nothing else: another thread may have held any lock at the fork, the
/// allocator's among them.
fn fork(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the child runs `work`, whose two callers in this file keep the promise above, and
    // ends by `_exit`, so that no code of the parent's runs twice.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = work();
            // SAFETY: ends the process; runs no handlers.
            unsafe { libc::_exit(code) }
        }
        pid => Pid::from_raw(pid).ok_or_else(|| io::Error::other("fork gave no pid")),
    }
}

/// Sleeps until killed; dies with the thread that forked it.
fn sleep_below(parent: Pid) -> i32 {
    // SAFETY: takes a signal number.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    loop {
        // SAFETY: takes nothing. A parent that died before the line above sends no signal.
        if unsafe { libc::getppid() } != parent.as_raw_nonzero().get() {
            return 0;
        }
        // SAFETY: waits for a signal; one with an inherited handler runs that and comes back.
        unsafe { libc::pause() };
    }
}
