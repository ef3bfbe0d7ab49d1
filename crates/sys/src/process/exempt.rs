//! Children of this process that are no workers.

use std::sync::{Mutex, MutexGuard, PoisonError};

static EXEMPT: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// Their pids.
pub(super) fn exempted() -> MutexGuard<'static, Vec<i32>> {
    EXEMPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves a child of this process out of every list of children and descendants until it is reaped: it is no worker,
/// and outlives the run.
pub(crate) fn exempt(pid: i32) {
    exempted().push(pid);
}

/// A child was reaped: its pid may become another process's.
pub(super) fn forget_exempt(pid: i32) {
    exempted().retain(|other| *other != pid);
}

/// Whether this process has a child that is no worker.
pub(super) fn has_exempt() -> bool {
    !exempted().is_empty()
}
