//! Processes that are not children of this process: the workers of a supervisor that was killed.

#![expect(unsafe_code, reason = "pidfd_send_signal(2) has no safe wrapper for real-time signals")]

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use super::identity::ProcessIdentity;
use crate::errno::last_errno;
use crate::fd::duplicate_from;
use crate::fd::poll::wait_readable;

/// A process, by a descriptor that refers to no other process even if its pid is reused (Linux 5.3).
#[derive(Debug)]
pub struct ForeignProcess {
    pid: i32,
    pidfd: OwnedFd,
}

impl ForeignProcess {
    /// Opens the process with this identity. `None`: it has ended, or belongs to another pid
    /// namespace, or no descriptor can be opened.
    #[must_use]
    pub fn open(identity: ProcessIdentity) -> Option<Self> {
        let pid = identity.pid().cast_signed();
        let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // Looked up after the descriptor is open, which then refers to this process.
        let is_same = ProcessIdentity::of(identity.pid()).is_ok_and(|found| found == identity);
        is_same.then_some(Self { pid, pidfd })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether every thread of the process has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        wait_readable(&self.pidfd, Duration::ZERO)
    }

    /// Sends a signal (`pidfd_send_signal(2)`, Linux 5.1). Succeeds if the process has ended.
    ///
    /// # Errors
    ///
    /// EINVAL: not a signal. EPERM: a process of another user.
    pub fn signal(&self, number: i32) -> Result<(), Errno> {
        if number <= 0 {
            return Err(Errno::INVAL);
        }
        let fd = self.pidfd.as_raw_fd();
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the call takes numbers and a null pointer, for which the kernel fills in the signal's
        // information itself. The signal goes to another process, so it runs no handler here.
        let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, number, no_info, 0) };
        match done {
            0 => Ok(()),
            _ => match last_errno() {
                Errno::SRCH => Ok(()),
                errno => Err(errno),
            },
        }
    }

    /// Duplicates a descriptor of the process (`pidfd_getfd(2)`, Linux 5.6). The duplicate has CLOEXEC.
    ///
    /// # Errors
    ///
    /// EPERM: no right to ptrace the process: another user without CAP_SYS_PTRACE, not dumpable, or
    /// Yama's `ptrace_scope` is not 0. EBADF: not open. ESRCH: the process has ended.
    pub fn duplicate(&self, descriptor: i32) -> Result<OwnedFd, Errno> {
        duplicate_from(&self.pidfd, descriptor)
    }

    /// A second handle of the same process.
    ///
    /// # Errors
    ///
    /// EMFILE: too many open descriptors.
    pub fn try_clone(&self) -> Result<Self, Errno> {
        let pidfd = rustix::io::fcntl_dupfd_cloexec(&self.pidfd, 0)?;
        Ok(Self { pid: self.pid, pidfd })
    }
}

/// The processes of a process group, in this pid namespace. Needs no privilege.
#[must_use]
pub fn members_of_group(group: i32) -> Vec<ProcessIdentity> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| super::group_of(pid.cast_signed()) == Some(group))
        .filter_map(|pid| ProcessIdentity::of(pid).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_signalled_and_seen_to_end() {
        let mut child = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let pid = child.id();
        let identity = ProcessIdentity::of(pid).unwrap();
        let process = ForeignProcess::open(identity).unwrap();
        assert!(!process.has_ended());
        assert_eq!(members_of_group(process.pid()), [identity]);
        assert_eq!(process.signal(0), Err(Errno::INVAL));
        process.try_clone().unwrap().signal(libc::SIGTERM).unwrap();
        child.wait().unwrap();
        assert!(process.has_ended());
        assert_eq!(process.signal(libc::SIGTERM), Ok(()));
        assert!(ForeignProcess::open(identity).is_none());
        assert_eq!(process.duplicate(0).unwrap_err(), Errno::SRCH);
    }

    #[test]
    fn descriptors_are_duplicated() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new("sleep");
        let mut child = command.arg("60").stdout(Stdio::from(writer)).spawn().unwrap();
        drop(command);
        let process = ForeignProcess::open(ProcessIdentity::of(child.id()).unwrap()).unwrap();
        let inode = |fd: std::os::fd::BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
        let duplicate = process.duplicate(1).unwrap();
        assert_eq!(inode(duplicate.as_fd()), inode(reader.as_fd()));
        assert_eq!(process.duplicate(-1).unwrap_err(), Errno::BADF);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
