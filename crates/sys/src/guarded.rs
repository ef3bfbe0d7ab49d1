//! Calls that another process can block: reads of its memory, and file system calls on its files.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::process::masked_thread;

/// The limit of calls that are under way at once. Each takes a thread, which a file system that does
/// not respond can keep for ever.
const MOST: usize = 32;

/// Stack of a thread, in bytes.
const STACK: usize = 256 * 1024;

/// Number of calls under way.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Makes a call on a thread of its own, and waits for the result for at most `limit`. `None`: there is
/// no result yet, too many other calls have none, or no thread can be started. A call without a result
/// goes on.
pub fn within<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if UNDER_WAY.fetch_add(1, Ordering::AcqRel) >= MOST {
        UNDER_WAY.fetch_sub(1, Ordering::AcqRel);
        return None;
    }
    let (give, take) = mpsc::channel();
    let calling = move || {
        let result = call();
        UNDER_WAY.fetch_sub(1, Ordering::AcqRel);
        // The receiver may have given up.
        drop(give.send(result));
    };
    match masked_thread::start("guarded", STACK, calling) {
        Ok(()) => take.recv_timeout(limit).ok(),
        Err(_) => {
            UNDER_WAY.fetch_sub(1, Ordering::AcqRel);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_blocks_has_no_result() {
        let (open, gate) = mpsc::channel::<()>();
        let blocked = within(Duration::from_millis(1), move || gate.recv());
        assert!(blocked.is_none());
        drop(open);
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
    }
}
