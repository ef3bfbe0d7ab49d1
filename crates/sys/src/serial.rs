//! Who may run beside whom: the tests of this crate share one process, and with it its descriptors.
//!
//! Until it executes something, a child has every descriptor of ours, and so has a thread with a
//! table of its own: it is a holder of the sockets of another test, rightly seen, and keeps them
//! open, listening and locked when that test closes them.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static TURN: RwLock<()> = RwLock::new(());

/// For tests that look who has a socket of theirs, close one that must then be closed, or open
/// hundreds.
pub(crate) fn run_exclusive() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

/// For tests that start a process, or open hundreds of descriptors.
pub(crate) fn run_shared() -> RwLockReadGuard<'static, ()> {
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}
