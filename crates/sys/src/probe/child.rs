//! Child processes that probes access, and that access each other: only a call shows which access
//! the kernel permits between processes.

#![expect(unsafe_code, reason = "fork(2), and the async-signal-safe calls of the child")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use crate::fd::duplicate_from;
use crate::seccomp::permits;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal};
use sameport_policy::sandbox::SandboxedCall;

/// A child process that sleeps. It is killed and reaped on drop, and dies with this thread.
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
                // The pid is not reused while this child is not reaped.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
                reap(pid)?;
                Err(error.into())
            }
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// `pidfd_getfd` from the parent, of a descriptor that was open before the child started.
    pub(super) fn duplicate(&self, fd: &OwnedFd) -> io::Result<()> {
        Ok(duplicate_from(&self.pidfd, fd.as_raw_fd()).map(drop)?)
    }

    /// `pidfd_getfd` from a second child: a process of the same user that is not an ancestor.
    pub(super) fn duplicate_from_sibling(&self, fd: &OwnedFd) -> io::Result<()> {
        permits(SandboxedCall::PidfdGetfd)?;
        let (pidfd, number) = (self.pidfd.as_raw_fd(), fd.as_raw_fd());
        let sibling = fork(|| {
            // SAFETY: pidfd_getfd(2) takes numbers and no pointer.
            let result = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, number, 0) };
            if result >= 0 {
                return 0;
            }
            io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
        })?;
        match reap(sibling)? {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::Error::other("the second child was killed")),
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL);
        let _ = reap(self.pid);
    }
}

/// Waits for a child; returns its exit code unless a signal killed it.
fn reap(pid: Pid) -> io::Result<Option<i32>> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status.exit_status()),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CHILD) => {
                return Err(io::Error::other("SIGCHLD is ignored, so the exit code was lost"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Forks a child that runs `work` and exits with its result. `work` may only make async-signal-safe
/// calls: another thread may have held any lock at the fork, such as the allocator's.
fn fork(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the child runs `work`, which both callers in this file keep async-signal-safe, and
    // ends by `_exit`, so that no destructor of the parent runs twice.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = work();
            // SAFETY: _exit(2) ends the process and runs no handlers.
            unsafe { libc::_exit(code) }
        }
        pid => Pid::from_raw(pid).ok_or_else(|| io::Error::other("fork gave no pid")),
    }
}

/// Sleeps until a signal kills it; dies with the thread that forked it.
fn sleep_below(parent: Pid) -> i32 {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and no pointer.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    loop {
        // SAFETY: getppid(2) takes no argument. A parent that died before the prctl sends no signal.
        if unsafe { libc::getppid() } != parent.as_raw_nonzero().get() {
            return 0;
        }
        // SAFETY: pause(2) takes no argument; it returns after an inherited signal handler.
        unsafe { libc::pause() };
    }
}
