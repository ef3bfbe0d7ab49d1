//! The signals of a program that takes the whole screen, as a descriptor (`signalfd(2)`).

#![expect(unsafe_code, reason = "the mask of a child is set between fork and exec")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::process::signal_set::SignalSet;
use crate::process::signals;

/// Signals after which the program restores the terminal and ends.
const TERMINATING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// A signal, as the program handles it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalSignal {
    /// SIGHUP, SIGINT, SIGQUIT or SIGTERM, with its number: restore the terminal and end.
    Terminate(u8),
    /// SIGTSTP: restore the terminal and call [`TerminalSignals::stop`].
    Stop,
    /// SIGCONT: set up the terminal again.
    Continue,
    /// SIGWINCH: the terminal has another size.
    Resize,
}

/// The blocked signals of this process, to be read.
#[derive(Debug)]
pub struct TerminalSignals {
    fd: OwnedFd,
    /// The mask from before.
    before: SignalSet,
}

impl TerminalSignals {
    /// Blocks the signals and opens the descriptor. Call it before another thread starts: threads inherit the
    /// mask, and an unblocked one would be ended by the signal.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE: too many open descriptors. ENOMEM: no memory.
    pub fn block() -> io::Result<Self> {
        let mut numbers = TERMINATING.to_vec();
        numbers.extend([libc::SIGTSTP, libc::SIGCONT, libc::SIGWINCH]);
        let set = SignalSet::new(&numbers);
        let before = set.block()?;
        Ok(Self { fd: signals::open(&set)?, before })
    }

    /// Lets a child start with the signal mask from before [`block`](Self::block), in a process group of its
    /// own: Ctrl-C reaches this process only.
    pub fn let_start(&self, command: &mut Command) {
        let before = self.before;
        command.process_group(0);
        // SAFETY: the closure calls pthread_sigmask(3) alone, which is async-signal-safe.
        unsafe { command.pre_exec(move || Ok(before.set_mask()?)) };
    }

    /// The next signal that has arrived, without waiting.
    ///
    /// # Errors
    ///
    /// Errors of `read(2)`.
    pub fn next(&self) -> io::Result<Option<TerminalSignal>> {
        let Some((number, _)) = signals::read_record(&self.fd)? else { return Ok(None) };
        Ok(Some(match number {
            libc::SIGTSTP => TerminalSignal::Stop,
            libc::SIGCONT => TerminalSignal::Continue,
            libc::SIGWINCH => TerminalSignal::Resize,
            number => TerminalSignal::Terminate(u8::try_from(number).unwrap_or(u8::MAX)),
        }))
    }

    /// Stops this process as SIGTSTP does, until SIGCONT. The kernel does not stop a process whose group has no
    /// parent in the session: nobody could continue it.
    ///
    /// # Errors
    ///
    /// Errors of `pthread_sigmask(3)` and `kill(2)`.
    pub fn stop(&self) -> io::Result<()> {
        let stop = SignalSet::new(&[libc::SIGTSTP]);
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TSTP)?;
        // Here the process stops: no other thread has the signal unblocked.
        stop.unblock()?;
        stop.block()?;
        Ok(())
    }
}

impl AsFd for TerminalSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
