//! What this process was started with, recorded before Rust's runtime changes it.
//!
//! Before `main`, the runtime ignores SIGPIPE and opens `/dev/null` on standard descriptors that
//! were closed. A worker is to get what *we* were given, so both are recorded first, by a function
//! in `.init_array`. What a supervisor changes for itself later is put back as well.

#![expect(unsafe_code, reason = "the only way to run before the runtime, and to restore signals")]

use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

static RECORD: AtomicU8 = AtomicU8::new(0);
const PIPE_IGNORED: u8 = 1 << 7;
const CHILD_IGNORED: u8 = 1 << 6;

// SAFETY: the linker runs every function whose address lies in `.init_array` before `main`, on the
// first thread; `record` has the type it calls and needs nothing of the runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = record;

extern "C" fn record() {
    let mut seen = 0;
    for fd in 0..3 {
        // SAFETY: F_GETFD reads a flag of a descriptor number, open or not.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            seen |= 1 << fd;
        }
    }
    for (signal, bit) in [(libc::SIGPIPE, PIPE_IGNORED), (libc::SIGCHLD, CHILD_IGNORED)] {
        // SAFETY: an all-zero `sigaction` is valid, and only written by the next call.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: a null new action only asks; the old one is written to a live local.
        let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
        if asked == 0 && action.sa_sigaction == libc::SIG_IGN {
            seen |= bit;
        }
    }
    RECORD.store(seen, Ordering::Relaxed);
}

/// Whether this standard descriptor (0, 1 or 2) was closed when the process started; it is
/// `/dev/null` now.
#[must_use]
pub fn was_closed(fd: RawFd) -> bool {
    (0..3).contains(&fd) && RECORD.load(Ordering::Relaxed) & (1 << fd) != 0
}

/// The signal mask as it was before [`crate::process::signals::Signals::block`] changed it.
pub(crate) static MASK: OnceLock<SigSet> = OnceLock::new();

/// Lets the kernel keep the ends of children for us: where SIGCHLD is ignored, it drops them.
pub(crate) fn notice_children() -> Result<(), Errno> {
    // SAFETY: SIG_DFL is no handler, so no code of ours can run by it.
    unsafe { nix::sys::signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }
        .map(drop)
        .map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

/// The limit of open descriptors, before it was raised.
static DESCRIPTORS: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit of open descriptors to the hard one, for this process: a supervisor has
/// one for each worker and some for each bind. Children get the limit from before.
pub fn raise_descriptor_limit() {
    let before = DESCRIPTORS.get_or_init(|| rustix::process::getrlimit(Resource::Nofile));
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    // The limit from before is what most programs live with.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
}

/// Gives a child the limit from before. As the last step: until then it may have to open a
/// descriptor above that limit, for as many as its supervisor has. Async-signal-safe.
pub(crate) fn restore_descriptor_limit() -> Result<(), Errno> {
    DESCRIPTORS.get().map_or(Ok(()), |limit| rustix::process::setrlimit(Resource::Nofile, *limit))
}

/// Gives a child the signal mask, SIGPIPE, SIGCHLD and closed descriptors that this process was
/// started with. Async-signal-safe: for use between `fork` and `exec`.
pub(crate) fn restore() -> Result<(), Errno> {
    let to_errno = |errno: nix::Error| Errno::from_raw_os_error(errno as i32);
    if let Some(mask) = MASK.get() {
        nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None)
            .map_err(to_errno)?;
    }
    let record = RECORD.load(Ordering::Relaxed);
    let ignored = [(Signal::SIGPIPE, PIPE_IGNORED), (Signal::SIGCHLD, CHILD_IGNORED)];
    for (signal, _) in ignored.into_iter().filter(|(_, bit)| record & bit != 0) {
        // SAFETY: SIG_IGN is no handler, so no code of ours can run by it.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }.map_err(to_errno)?;
    }
    for fd in (0..3).filter(|fd| record & (1 << fd) != 0) {
        // SAFETY: the runtime opened this descriptor on `/dev/null` and nobody owns it.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// All of that, for a program that this process executes in its own place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupState {
    /// Numbers of the signals that were blocked.
    pub blocked: Vec<i32>,
    /// What the record at the start says.
    pub record: u8,
    /// The soft limit of open descriptors; `None`: there is none.
    pub descriptors: Option<u64>,
}

/// What this process was started with.
#[must_use]
pub fn handed_on() -> StartupState {
    let mask = MASK.get().copied().unwrap_or_else(SigSet::empty);
    // SAFETY: sigismember(3) reads the set that the reference names, for any number.
    let is_blocked = |number: &i32| unsafe { libc::sigismember(mask.as_ref(), *number) } == 1;
    StartupState {
        blocked: (1..=libc::SIGRTMAX()).filter(is_blocked).collect(),
        record: RECORD.load(Ordering::Relaxed),
        descriptors: DESCRIPTORS.get().and_then(|limit| limit.current),
    }
}

/// Takes what an earlier program in this process was started with for our own. Before
/// [`crate::process::signals::Signals::block`].
pub fn take_over(from: &StartupState) {
    MASK.get_or_init(|| {
        // SAFETY: an all-zero set is a valid one, and the empty one on Linux.
        let mut mask: libc::sigset_t = unsafe { std::mem::zeroed() };
        for number in &from.blocked {
            // SAFETY: the set is a live local; a number that is none is refused.
            unsafe { libc::sigaddset(&raw mut mask, *number) };
        }
        // SAFETY: the set was made by sigaddset(3).
        unsafe { SigSet::from_sigset_t_unchecked(mask) }
    });
    RECORD.store(from.record, Ordering::Relaxed);
    DESCRIPTORS.get_or_init(|| {
        let now = rustix::process::getrlimit(Resource::Nofile);
        Rlimit { current: from.descriptors, maximum: now.maximum }
    });
}
