//! Mutual exclusion of tests: all tests of this crate share the descriptors of one process.
//!
//! A forked child has a copy of every descriptor until its exec, and so has a thread with its own
//! descriptor table. Such a copy keeps the sockets of another test open, listening and locked after
//! that test has closed them, and scans of `/proc` report it as a holder.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static TURN: RwLock<()> = RwLock::new(());

/// Excludes every other test that takes a turn: for tests that list the holders of a socket, or
/// require that a closed socket is closed.
pub(crate) fn run_exclusive() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

/// For tests that start a process, unshare a descriptor table or open hundreds of descriptors.
pub(crate) fn run_shared() -> RwLockReadGuard<'static, ()> {
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}
