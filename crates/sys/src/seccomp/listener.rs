//! The supervisor's side: receiving notifications and answering them.

#![expect(unsafe_code, reason = "the notification ioctls have no safe wrapper")]

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::errno::last_errno;

/// The listener of a worker and its descendants. After it is closed, their filtered calls fail with
/// ENOSYS.
#[derive(Debug)]
pub struct NotifyListener(OwnedFd);

/// A blocked system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    /// The id for the answer. Unique for the listener.
    pub id: u64,
    /// The id of the calling thread, in this pid namespace.
    pub tid: i32,
    /// The `AUDIT_ARCH_*` number of the system call interface.
    pub arch: u32,
    /// The number of the system call in that interface.
    pub number: u32,
    /// The arguments, as the registers held them.
    pub args: [u64; 6],
}

impl NotifyListener {
    /// Takes the descriptor that [`super::install`] returned.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        let listener = Self(fd);
        listener.wake_synchronously();
        listener
    }

    /// Duplicates the descriptor. The duplicate keeps the listener open, but only one of them may
    /// receive.
    ///
    /// # Errors
    ///
    /// EMFILE: too many open descriptors.
    pub fn duplicate(&self) -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(&self.0, 0)
    }

    /// Lets worker and supervisor wake each other on the same processor, which makes a bind faster
    /// (`SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, Linux 6.6). Older kernels refuse the request, without
    /// other effect.
    fn wake_synchronously(&self) {
        const SYNC_WAKE_UP: libc::c_ulong = 1;
        // SAFETY: this ioctl takes its flags by value and no pointer.
        unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP)
        };
    }

    /// Receives the next notification. Blocks if there is none; [`Self::wait`] reports when there
    /// is one. `None`: the calling thread died meanwhile.
    ///
    /// # Errors
    ///
    /// Errors of `SECCOMP_IOCTL_NOTIF_RECV`, other than ENOENT and EINTR.
    pub fn receive(&self) -> Result<Option<Notification>, Errno> {
        // SAFETY: an all-zero `seccomp_notif` is valid, and the input that the kernel requires.
        let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one `seccomp_notif`, whose size is part of the request number,
        // through the pointer.
        let done = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut raw)
        };
        if done < 0 {
            return match last_errno() {
                Errno::NOENT | Errno::INTR => Ok(None),
                errno => Err(errno),
            };
        }
        let Ok(tid) = i32::try_from(raw.pid) else { return Ok(None) };
        Ok(Some(Notification {
            id: raw.id,
            tid,
            arch: raw.data.arch,
            // `nr` is a C int for an unsigned number (x32 sets bit 30).
            number: raw.data.nr.cast_unsigned(),
            args: raw.data.args,
        }))
    }

    /// Whether the call is still blocked. If so, facts read about its thread before are about this
    /// thread, and not about a later one with the same id.
    #[must_use]
    pub fn is_waiting(&self, id: u64) -> bool {
        // SAFETY: the kernel reads one `u64` through the pointer.
        let done = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id)
        };
        done == 0
    }

    /// Lets the kernel execute the call with the worker's rights, on the present contents of the
    /// worker's memory. `false`: the call is not blocked any more.
    ///
    /// # Errors
    ///
    /// Errors of `SECCOMP_IOCTL_NOTIF_SEND`, other than ENOENT.
    pub fn let_continue(&self, id: u64) -> Result<bool, Errno> {
        #[expect(clippy::cast_possible_truncation, reason = "the flag is 1")]
        let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        self.send(libc::seccomp_notif_resp { id, val: 0, error: 0, flags })
    }

    /// Makes the call return 0 or fail with this error, without executing it. `false`: the call is not
    /// blocked any more.
    ///
    /// # Errors
    ///
    /// Errors of `SECCOMP_IOCTL_NOTIF_SEND`, other than ENOENT.
    pub fn answer(&self, id: u64, result: Result<(), Errno>) -> Result<bool, Errno> {
        let error = result.map_or_else(|errno| -errno.raw_os_error(), |()| 0);
        self.send(libc::seccomp_notif_resp { id, val: 0, error, flags: 0 })
    }

    /// Replaces the caller's descriptor `at` by a duplicate of `socket`, as `dup2` would
    /// (`SECCOMP_IOCTL_NOTIF_ADDFD`, Linux 5.9). The call stays blocked. `false`: the call is not
    /// blocked any more.
    ///
    /// # Errors
    ///
    /// EBADF: the number exceeds the caller's RLIMIT_NOFILE. EACCES, EPERM: a security module forbids
    /// the transfer. ENOTTY, EINVAL: an older kernel.
    pub fn replace_fd(
        &self,
        id: u64,
        socket: BorrowedFd<'_>,
        at: RawFd,
        close_on_exec: bool,
    ) -> Result<bool, Errno> {
        #[expect(clippy::cast_possible_truncation, reason = "the flag is 1")]
        let request = libc::seccomp_notif_addfd {
            id,
            flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
            srcfd: socket.as_raw_fd().cast_unsigned(),
            newfd: at.cast_unsigned(),
            newfd_flags: if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
        };
        match add_fd(self.as_fd(), &request) {
            Ok(()) => Ok(true),
            // The caller died, or a signal interrupted the call, which will be repeated.
            Err(Errno::NOENT | Errno::INPROGRESS) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn send(&self, mut answer: libc::seccomp_notif_resp) -> Result<bool, Errno> {
        // SAFETY: the kernel reads one `seccomp_notif_resp` through the pointer.
        let done = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer)
        };
        match done {
            0 => Ok(true),
            _ => match last_errno() {
                Errno::NOENT => Ok(false),
                errno => Err(errno),
            },
        }
    }
}

/// `SECCOMP_IOCTL_NOTIF_ADDFD`, Linux 5.9: duplicates a descriptor into the caller's table.
pub(crate) fn add_fd(
    listener: BorrowedFd<'_>,
    request: &libc::seccomp_notif_addfd,
) -> Result<(), Errno> {
    // SAFETY: the kernel reads one `seccomp_notif_addfd` through the pointer. It changes only the
    // caller's descriptor table, as the caller's own `dup2` could.
    let result = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ADDFD,
            std::ptr::from_ref(request),
        )
    };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

impl AsFd for NotifyListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for NotifyListener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
