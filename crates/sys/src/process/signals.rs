//! Signals as values that are read from a descriptor.

#![expect(unsafe_code, reason = "tokio takes on trust that a descriptor stays the same")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{self, SfdFlags};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::fd::poll::readable;
use crate::process::startup::MASK;

/// Signals that a supervisor passes on to its workers.
const PASSED_ON: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
];

/// Signals that ask a program to end.
const STOPPING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// Whether one of the blocked signals that ask a program to end waits to be taken, by
/// [`Signals::next`]: it stays where it is. `false` where that cannot be told.
#[must_use]
pub fn stop_is_pending() -> bool {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    signalfd::SignalFd::with_flags(&SigSet::from_iter(STOPPING), flags)
        .is_ok_and(|stopping| readable(&stopping, Duration::ZERO))
}

/// The signals a supervisor waits for.
#[derive(Debug)]
pub struct SignalFd(signalfd::SignalFd);

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceivedSignal {
    /// A child changed its state.
    Child,
    /// A signal for the workers.
    ForWorkers {
        /// Its number.
        number: i32,
        /// Whether the kernel sent it to the whole foreground process group (Ctrl-C, window size, a
        /// hang-up unless we lead the session): workers in that group have it already.
        from_terminal: bool,
    },
}

impl SignalFd {
    /// Blocks the signals and reads them instead. The mask from before is kept for the workers.
    ///
    /// Call it before any other thread starts, once; other threads inherit the blocked mask.
    pub fn block() -> std::io::Result<Self> {
        let mut blocked = SigSet::from_iter(PASSED_ON);
        blocked.add(Signal::SIGCHLD);
        let before = blocked.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
        MASK.get_or_init(|| before);
        crate::process::startup::notice_children()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(signalfd::SignalFd::with_flags(&blocked, flags)?))
    }

    /// Registers them with the tokio runtime that is current, to wait for the next.
    pub fn watched(self) -> std::io::Result<AsyncFd<Self>> {
        // SAFETY: `Signals` owns its descriptor and never exchanges it, so it stays open and the
        // same for as long as the `AsyncFd` has it.
        unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }.map_err(Into::into)
    }

    /// The next signal that has arrived, without waiting.
    pub fn next(&self) -> std::io::Result<Option<ReceivedSignal>> {
        let Some(info) = self.0.read_signal()? else { return Ok(None) };
        let number = info.ssi_signo.cast_signed();
        if number == Signal::SIGCHLD as i32 {
            return Ok(Some(ReceivedSignal::Child));
        }
        const SI_KERNEL: i32 = 0x80;
        let from_terminal = info.ssi_code == SI_KERNEL && goes_to_the_group(number);
        Ok(Some(ReceivedSignal::ForWorkers { number, from_terminal }))
    }
}

/// Whether the kernel sends this signal to the whole foreground process group. A hang-up goes to
/// the session's leader alone (`tty_signal_session_leader` in `drivers/tty/tty_jobctrl.c`), and to
/// the group only when that leader ends.
fn goes_to_the_group(number: i32) -> bool {
    match Signal::try_from(number) {
        Ok(Signal::SIGINT | Signal::SIGQUIT | Signal::SIGWINCH) => true,
        Ok(Signal::SIGHUP) => {
            let ourselves = rustix::process::getpid().as_raw_nonzero().get();
            crate::process::session_of(ourselves).is_some_and(|leader| leader != ourselves)
        }
        _ => false,
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for SignalFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
