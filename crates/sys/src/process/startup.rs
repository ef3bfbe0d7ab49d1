//! The state in which this process was started, recorded before Rust's runtime changes it.
//!
//! Before `main`, the runtime ignores SIGPIPE and opens `/dev/null` on standard descriptors that
//! were closed. A function in `.init_array` runs earlier and records both, so that workers start
//! with the original state. The signal mask and the descriptor limit, which a supervisor changes
//! for itself, are restored as well.

#![expect(unsafe_code, reason = "code that runs before the runtime; close(2) of a bare number")]

use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

use super::signal_set::{Disposition, SignalSet, is_ignored, set_disposition};

/// Bits 0 to 2: this standard descriptor was closed. The bits of `IGNORABLE`: this signal was ignored.
static FLAGS: AtomicU8 = AtomicU8::new(0);

/// Signals whose disposition Rust's runtime or a supervisor changes, and their bits.
const IGNORABLE: [(i32, u8); 2] = [(libc::SIGPIPE, 1 << 7), (libc::SIGCHLD, 1 << 6)];

// SAFETY: the linker runs every function whose address lies in `.init_array` before `main`, on the
// first thread; `record` has the type it calls and needs nothing of the runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = record;

extern "C" fn record() {
    let mut flags = 0;
    for fd in 0..3 {
        // SAFETY: F_GETFD reads a flag of a descriptor number, open or not.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            flags |= 1 << fd;
        }
    }
    for (signal, bit) in IGNORABLE {
        if is_ignored(signal) {
            flags |= bit;
        }
    }
    FLAGS.store(flags, Ordering::Relaxed);
}

/// Whether this standard descriptor (0, 1 or 2) was closed when the process started. It is
/// `/dev/null` now.
#[must_use]
pub fn was_closed(fd: RawFd) -> bool {
    (0..3).contains(&fd) && FLAGS.load(Ordering::Relaxed) & (1 << fd) != 0
}

/// The signal mask from before [`super::signals::SignalFd::block`] changed it.
static MASK: OnceLock<SignalSet> = OnceLock::new();

/// Keeps the mask that workers start with. The first call counts.
pub(super) fn keep_mask(mask: SignalSet) {
    MASK.get_or_init(|| mask);
}

/// Resets SIGCHLD: where it is ignored, the kernel drops the exit status of children.
pub(super) fn unignore_children() -> Result<(), Errno> {
    set_disposition(libc::SIGCHLD, Disposition::Default)
}

/// The limit of open descriptors from before [`raise_descriptor_limit`].
static DESCRIPTOR_LIMIT: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit of open descriptors (RLIMIT_NOFILE) of this process to the hard limit: a
/// supervisor needs one descriptor for each worker and some for each bind. Workers get the limit
/// from before.
pub fn raise_descriptor_limit() {
    let before = DESCRIPTOR_LIMIT.get_or_init(|| rustix::process::getrlimit(Resource::Nofile));
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    // A supervisor with few workers also runs within the old limit.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
}

/// The present soft limit of open descriptors of this process; `u64::MAX` without a limit.
#[must_use]
pub fn descriptor_limit() -> u64 {
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Restores the limit of open descriptors in a child, as the last step: until then the child may
/// have to open a descriptor above that limit. Async-signal-safe.
pub(super) fn restore_descriptor_limit() -> Result<(), Errno> {
    DESCRIPTOR_LIMIT
        .get()
        .map_or(Ok(()), |limit| rustix::process::setrlimit(Resource::Nofile, *limit))
}

/// Restores in a child the signal mask, the dispositions of SIGPIPE and SIGCHLD, and the closed
/// standard descriptors. Async-signal-safe: for use between `fork` and `exec`.
pub(super) fn restore() -> Result<(), Errno> {
    if let Some(mask) = MASK.get() {
        mask.set_mask()?;
    }
    let flags = FLAGS.load(Ordering::Relaxed);
    for (signal, _) in IGNORABLE.into_iter().filter(|(_, bit)| flags & bit != 0) {
        set_disposition(signal, Disposition::Ignore)?;
    }
    for fd in (0..3).filter(|fd| flags & (1 << fd) != 0) {
        // SAFETY: the runtime opened this descriptor on `/dev/null`, and nothing owns it.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// The recorded state, to be carried through an `exec` of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupState {
    /// Numbers of the signals that were blocked.
    pub blocked: Vec<i32>,
    /// Closed standard descriptors and ignored signals, as bits that only this module reads.
    pub record: u8,
    /// The soft limit of open descriptors, if there was a limit.
    pub descriptors: Option<u64>,
}

/// The state in which this process was started.
#[must_use]
pub fn state() -> StartupState {
    StartupState {
        blocked: MASK.get().map(SignalSet::signals).unwrap_or_default(),
        record: FLAGS.load(Ordering::Relaxed),
        descriptors: DESCRIPTOR_LIMIT.get().and_then(|limit| limit.current),
    }
}

/// Replaces the recorded state by the one of the program that this process ran before `exec`. Call
/// it before [`super::signals::SignalFd::block`] and [`raise_descriptor_limit`].
pub fn adopt_state(state: &StartupState) {
    MASK.get_or_init(|| SignalSet::new(&state.blocked));
    FLAGS.store(state.record, Ordering::Relaxed);
    DESCRIPTOR_LIMIT.get_or_init(|| {
        let now = rustix::process::getrlimit(Resource::Nofile);
        Rlimit { current: state.descriptors, maximum: now.maximum }
    });
}
