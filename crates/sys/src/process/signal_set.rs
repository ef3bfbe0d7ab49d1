//! Signal masks and dispositions, behind safe functions.

#![expect(unsafe_code, reason = "rustix has no sigset_t, and sigaction takes a pointer to code")]

use std::mem::MaybeUninit;

use rustix::io::Errno;

use crate::errno::last_errno;

/// A set of signal numbers (`sigsetops(3)`).
#[derive(Clone, Copy)]
pub(crate) struct SignalSet(libc::sigset_t);

impl SignalSet {
    /// The set of these signals. Numbers that name no signal are left out.
    pub(crate) fn new(signals: &[i32]) -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset(3) writes one whole `sigset_t` through the pointer.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: sigemptyset(3) has initialised the set.
        let mut set = unsafe { set.assume_init() };
        for signal in signals {
            // SAFETY: the set is initialised; a number out of range fails with EINVAL.
            unsafe { libc::sigaddset(&raw mut set, *signal) };
        }
        Self(set)
    }

    /// The numbers in the set, in ascending order.
    pub(crate) fn signals(&self) -> Vec<i32> {
        // SAFETY: sigismember(3) reads the initialised set and accepts any number.
        let is_member =
            |signal: &i32| unsafe { libc::sigismember(&raw const self.0, *signal) == 1 };
        (1..=libc::SIGRTMAX()).filter(is_member).collect()
    }

    /// The set, as C functions take it.
    pub(crate) fn as_raw(&self) -> &libc::sigset_t {
        &self.0
    }

    /// Adds the set to the calling thread's signal mask; returns the mask from before.
    pub(crate) fn block(&self) -> Result<Self, Errno> {
        self.change_mask(libc::SIG_BLOCK)
    }

    /// Removes the set from the calling thread's signal mask.
    pub(crate) fn unblock(&self) -> Result<(), Errno> {
        self.change_mask(libc::SIG_UNBLOCK).map(drop)
    }

    /// Makes the set the calling thread's signal mask. Async-signal-safe.
    pub(crate) fn set_mask(&self) -> Result<(), Errno> {
        self.change_mask(libc::SIG_SETMASK).map(drop)
    }

    /// `pthread_sigmask(3)`, which returns the error number instead of setting `errno`.
    fn change_mask(&self, how: libc::c_int) -> Result<Self, Errno> {
        let mut before = Self::new(&[]);
        // SAFETY: both pointers are to initialised sets that live until the call returns.
        let errno = unsafe { libc::pthread_sigmask(how, &raw const self.0, &raw mut before.0) };
        if errno == 0 { Ok(before) } else { Err(Errno::from_raw_os_error(errno)) }
    }
}

impl std::fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.signals()).finish()
    }
}

/// The disposition of a signal that has no handler.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Disposition {
    Default,
    Ignore,
}

/// Sets the disposition of a signal for the whole process (`signal(2)`). Async-signal-safe.
pub(crate) fn set_disposition(signal: i32, disposition: Disposition) -> Result<(), Errno> {
    let handler = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignore => libc::SIG_IGN,
    };
    // SAFETY: neither SIG_DFL nor SIG_IGN is the address of a function, so no code runs by it.
    match unsafe { libc::signal(signal, handler) } {
        libc::SIG_ERR => Err(last_errno()),
        _ => Ok(()),
    }
}

/// Whether this process ignores the signal. Needs nothing of Rust's runtime.
pub(crate) fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null new action changes nothing; the old one is written to a live local.
    if unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: sigaction(2) succeeded and has therefore written the action.
    unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_valid_signal_numbers_only() {
        let set = SignalSet::new(&[libc::SIGTERM, libc::SIGHUP, 0, -1, 4096]);
        assert_eq!(set.signals(), [libc::SIGHUP, libc::SIGTERM]);
        assert!(SignalSet::new(&[]).signals().is_empty());
    }

    #[test]
    fn blocking_returns_the_mask_from_before() {
        let before = SignalSet::new(&[libc::SIGUSR2]).block().unwrap();
        let during = SignalSet::new(&[libc::SIGUSR1]).block().unwrap();
        assert!(during.signals().contains(&libc::SIGUSR2));
        before.set_mask().unwrap();
        let after = SignalSet::new(&[]).block().unwrap();
        assert_eq!(after.signals(), before.signals());
    }
}
