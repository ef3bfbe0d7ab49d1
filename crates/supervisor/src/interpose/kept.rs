//! Duplicates of sockets whose bind the supervisor has let continue.
//!
//! A program that is refused often ends at once, and its socket with it: the duplicate tells the
//! outcome even then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sameport_policy::model::{Address, Protocol};
use sameport_sys::socket::WorkerSocket;

/// The limit of duplicates: each is a descriptor of the supervisor.
const MOST_KEPT: usize = 512;

/// Duplicates by inode. A listening socket is never among them: as long as the supervisor had a
/// duplicate, the socket would still receive connections that its program can no longer accept.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeptSockets(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    sockets: BTreeMap<u64, WorkerSocket>,
    /// The number of calls that are not followed, because there were too many at once.
    lost: usize,
}

impl KeptSockets {
    /// Keeps a socket until the outcome of its bind is known, or it is about to listen. `false`: the
    /// limit is reached.
    pub(crate) fn keep(&self, socket: WorkerSocket) -> bool {
        let mut kept = self.kept();
        let has_room = kept.sockets.len() < MOST_KEPT;
        if has_room {
            kept.sockets.insert(socket.inode(), socket);
        }
        has_room
    }

    pub(crate) fn release(&self, inode: u64) {
        let socket = self.kept().sockets.remove(&inode);
        // Closed after the lock is free.
        drop(socket);
    }

    /// Counts a call as not followed.
    pub(crate) fn lose(&self, inode: u64) {
        let mut kept = self.kept();
        kept.sockets.remove(&inode);
        kept.lost += 1;
    }

    /// The number of calls that were not followed since the last time.
    pub(crate) fn take_lost(&self) -> usize {
        std::mem::take(&mut self.kept().lost)
    }

    /// The address that the socket is bound to, if any; `None` if it is not kept.
    pub(crate) fn bound_address(&self, inode: u64, protocol: Protocol) -> Option<Option<Address>> {
        let kept = self.kept();
        kept.sockets.get(&inode).map(|socket| socket.bound_address(protocol).ok().flatten())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
