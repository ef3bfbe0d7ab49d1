//! The store at the end of a run: what the service manager keeps is complete and in order.
//!
//! The next run steers a group only if the names of its stored sockets tell their order. A run can end
//! while the manager closes a spare socket. That socket still has its index then, so the other names would
//! have a gap, which two sockets that leave make unclear.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{PoolState, SocketPool};

/// Time limit, for a manager that does not answer.
const LIMIT: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(5);

impl SocketPool {
    /// Waits until the manager has closed the sockets that it was asked to close, and has the names of the
    /// others. To be called when every worker has ended.
    pub(crate) async fn settle_store(&self) {
        self.reopen_for_next_run();
        let until = Instant::now() + LIMIT;
        while !self.state().is_store_settled() && Instant::now() < until {
            sleep(PAUSE).await;
        }
    }
}

impl PoolState {
    fn is_store_settled(&mut self) -> bool {
        if !self.store.exists() {
            return true;
        }
        for inode in self.store.leaving() {
            if self.store.close(inode) {
                self.release(inode);
            }
        }
        // The indices changed when the gate left.
        for address in self.steering.groups.keys().cloned().collect::<Vec<_>>() {
            self.update_store(&address);
        }
        self.store.flush() && self.store.leaving().is_empty()
    }
}
