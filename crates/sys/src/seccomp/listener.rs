//! The supervisor's end: receive a notification, answer it.

#![expect(unsafe_code, reason = "the notification ioctls have no safe wrapper")]

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::errno::last_errno;

/// The one listener of a worker and all its children. The kernel answers their next bind ENOSYS
/// once it is closed.
#[derive(Debug)]
pub struct NotifyListener(OwnedFd);

/// A system call that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    /// Names it in the answer. Not reused while the listener lives.
    pub id: u64,
    /// The thread that made the call, in our pid namespace. Threads of one process differ here.
    pub tid: i32,
    /// `AUDIT_ARCH_*` of the dialect that the call was made in.
    pub arch: u32,
    /// The system call's number in that dialect.
    pub number: u32,
    /// Its arguments, as the registers held them.
    pub args: [u64; 6],
}

/// What a listener has for us without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerState {
    /// A notification.
    Notification,
    /// Nothing ever again: no process with this filter is left.
    Closed,
}

impl NotifyListener {
    /// Takes the descriptor that `install` returned.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        let listener = Self(fd);
        listener.wake_synchronously();
        listener
    }

    /// Another descriptor of it, by which it outlives the first. Only one of them may receive.
    pub fn duplicate(&self) -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(&self.0, 0)
    }

    /// Linux 6.6 can hand the processor straight over between worker and supervisor
    /// (`SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`): a faster bind, and nothing lost where it is unknown.
    fn wake_synchronously(&self) {
        const SYNC_WAKE_UP: libc::c_ulong = 1;
        // SAFETY: this ioctl takes its flags by value and touches no memory of ours.
        unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP)
        };
    }

    /// Takes the next notification. Waits for one if there is none: ask [`super::ListenerSet`] first.
    /// `None`: the caller died before we got to it.
    pub fn receive(&self) -> Result<Option<Notification>, Errno> {
        // SAFETY: an all-zero `seccomp_notif` is valid, and what the kernel demands as input.
        let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes at most one `seccomp_notif` through the pointer, whose size is
        // part of the request number.
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
            // The number is a C int that carries an unsigned one (x32 sets bit 30).
            number: raw.data.nr.cast_unsigned(),
            args: raw.data.args,
        }))
    }

    /// Whether the caller still waits for the answer. Everything learned about its thread before a
    /// `true` was about this thread, and not about a later one with the same id.
    #[must_use]
    pub fn is_waiting(&self, id: u64) -> bool {
        // SAFETY: the kernel reads one `u64` through the pointer.
        let done = unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id)
        };
        done == 0
    }

    /// Lets the call happen, with the worker's own rights, on what its memory holds by then.
    /// `false`: the caller does not wait any more, which is nobody's fault.
    pub fn let_continue(&self, id: u64) -> Result<bool, Errno> {
        #[expect(clippy::cast_possible_truncation, reason = "the flag is 1")]
        let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        self.send(libc::seccomp_notif_resp { id, val: 0, error: 0, flags })
    }

    /// Answers in the kernel's place: the call returns 0, or fails with this error, and does not
    /// happen. `false` as in [`Self::let_continue`].
    pub fn answer(&self, id: u64, result: Result<(), Errno>) -> Result<bool, Errno> {
        let error = result.map_or_else(|errno| -errno.raw_os_error(), |()| 0);
        self.send(libc::seccomp_notif_resp { id, val: 0, error, flags: 0 })
    }

    /// Puts a socket of ours where the caller has its descriptor `at`, as `dup2` would: what was
    /// there is closed, and both of us hold the socket. The call still waits for its answer.
    /// `false` as in [`Self::let_continue`].
    ///
    /// Minimum kernel 5.9 (`SECCOMP_IOCTL_NOTIF_ADDFD`).
    ///
    /// # Errors
    ///
    /// EBADF: the caller may not have a descriptor with that number (RLIMIT_NOFILE). EACCES, EPERM:
    /// a security module forbids it. ENOTTY, EINVAL: an older kernel.
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
            // The caller died; or it was interrupted, and makes its call again.
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
