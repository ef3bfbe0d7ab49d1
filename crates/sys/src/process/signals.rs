//! Signals read from a descriptor (`signalfd(2)`, Linux 2.6.27).

#![expect(
    unsafe_code,
    reason = "signalfd(2) has no safe wrapper; tokio requires a stable descriptor"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;
use sameport_policy::hang_up;
use sameport_policy::hang_up::{HangUpFacts, HangUpMeaning};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::signal_set::{SignalSet, is_ignored};
use super::startup;
use super::tree::{has_terminal, session_of};
use crate::errno::last_errno;
use crate::fd::poll::wait_readable;

/// Signals that a supervisor forwards to its workers.
const FORWARDED: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGWINCH,
];

/// Signals that ask a program to terminate.
const TERMINATING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// Whether a blocked SIGHUP, SIGINT, SIGQUIT or SIGTERM is pending. The signal stays pending for
/// [`SignalFd::next`]. `false` if no descriptor could be opened.
#[must_use]
pub fn termination_is_pending() -> bool {
    open(&SignalSet::new(&TERMINATING)).is_ok_and(|fd| wait_readable(&fd, Duration::ZERO))
}

/// The signals that a supervisor handles, as a descriptor.
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
    /// Whether this process had a controlling terminal at the call of [`SignalFd::block`].
    had_terminal: bool,
}

/// A signal that a supervisor received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceivedSignal {
    /// SIGCHLD: a child changed its state.
    Child,
    /// SIGHUP, because the terminal closed.
    HangUp {
        /// Whether the workers in the foreground process group have received it as well.
        from_terminal: bool,
    },
    /// A signal to forward to the workers.
    ForWorkers {
        /// The signal's number.
        number: i32,
        /// Whether the kernel sent the signal to the whole foreground process group (Ctrl-C, window
        /// size, a hang-up unless this process leads the session). Workers in that group have
        /// received it as well.
        from_terminal: bool,
    },
}

impl SignalFd {
    /// Blocks the signals and opens a descriptor that reads them. Workers get the mask from before.
    ///
    /// Call it once, before any other thread starts: threads inherit the blocked mask.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE: too many open descriptors. ENOMEM: no memory.
    pub fn block() -> io::Result<Self> {
        let mut signals = FORWARDED.to_vec();
        signals.push(libc::SIGCHLD);
        let signals = SignalSet::new(&signals);
        startup::keep_mask(signals.block()?);
        startup::unignore_children()?;
        Ok(Self { fd: open(&signals)?, had_terminal: has_terminal(own_pid()) })
    }

    /// Registers the descriptor with the current tokio runtime.
    ///
    /// # Errors
    ///
    /// Errors of `epoll_ctl(2)`.
    pub fn into_async(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: `SignalFd` owns its descriptor and never replaces it, so the descriptor stays open
        // and the same for as long as the `AsyncFd` has it.
        unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }.map_err(Into::into)
    }

    /// The next signal that has arrived, without waiting. Leaves out a SIGHUP that `nohup(1)` has told
    /// this process to ignore: a blocked signal arrives nevertheless.
    ///
    /// # Errors
    ///
    /// Errors of `read(2)`.
    pub fn next(&self) -> io::Result<Option<ReceivedSignal>> {
        loop {
            let Some((number, by_kernel)) = read_record(&self.fd)? else { return Ok(None) };
            if number == libc::SIGCHLD {
                return Ok(Some(ReceivedSignal::Child));
            }
            let from_terminal = by_kernel && reaches_foreground_group(number);
            let facts = HangUpFacts {
                by_kernel,
                ignored: is_ignored(libc::SIGHUP),
                had_terminal: self.had_terminal,
                has_terminal: self.had_terminal && has_terminal(own_pid()),
            };
            match (number, hang_up::meaning(facts)) {
                (libc::SIGHUP, HangUpMeaning::Ignored) => {}
                (libc::SIGHUP, HangUpMeaning::Closed) => {
                    return Ok(Some(ReceivedSignal::HangUp { from_terminal }));
                }
                _ => return Ok(Some(ReceivedSignal::ForWorkers { number, from_terminal })),
            }
        }
    }
}

/// The number of the next signal of a descriptor from [`open`], and whether the kernel sent it.
pub(crate) fn read_record(fd: &OwnedFd) -> io::Result<Option<(i32, bool)>> {
    /// The kernel itself generated the signal, not `kill(2)`. See sigaction(2).
    const SI_KERNEL: i32 = 0x80;
    let mut record = [0; size_of::<libc::signalfd_siginfo>()];
    loop {
        match rustix::io::read(fd, &mut record) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
    }
    // Fields of `struct signalfd_siginfo`: signo at 0, code at 8.
    let field = |at: usize| {
        let bytes = record.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| i32::from_ne_bytes(*bytes))
    };
    Ok(Some((field(0), field(8) == SI_KERNEL)))
}

/// A descriptor that reads these signals, which the caller has blocked. Reads do not wait.
pub(crate) fn open(signals: &SignalSet) -> Result<OwnedFd, Errno> {
    // SAFETY: -1 asks for a new descriptor; the set lives until the call returns.
    let fd =
        unsafe { libc::signalfd(-1, signals.as_raw(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(last_errno());
    }
    // SAFETY: signalfd(2) has just opened the descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the kernel sends this signal to the whole foreground process group. A hang-up goes to
/// the session leader alone (`tty_signal_session_leader` in `drivers/tty/tty_jobctrl.c`), and to
/// the group only when that leader exits.
fn reaches_foreground_group(number: i32) -> bool {
    match number {
        libc::SIGINT | libc::SIGQUIT | libc::SIGWINCH => true,
        libc::SIGHUP => {
            let pid = own_pid();
            session_of(pid).is_some_and(|leader| leader != pid)
        }
        _ => false,
    }
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for SignalFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
