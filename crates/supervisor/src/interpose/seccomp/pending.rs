//! What the kernel said to a worker's call, which it made itself after we let it go on.
//!
//! Nothing reports that. But the socket can be looked at again: it is bound (or listens) soon after,
//! or the thread has left the call and it is not. Only what is certain is told: a refusal that was
//! none would be worse than one that is not explained.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sameport_policy::model::{Address, Protocol};
use sameport_sys::process::{ThreadState, thread_state};
use sameport_sys::socket::{SocketAccess, WorkerSocket};

use crate::report::{AnsweredCall, CallKind, REPORT_QUEUE};

/// When to look, counted from the answer. A call that hangs longer is not followed any further.
const LOOKS: [Duration; 7] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(60),
    Duration::from_millis(200),
    Duration::from_millis(600),
    Duration::from_secs(2),
];

/// How many calls are followed at once. A worker that makes more gets them answered all the same,
/// and their number is told.
const MOST: usize = REPORT_QUEUE;

/// How many duplicates are kept at once: each is a descriptor of ours.
const MOST_KEPT: usize = 512;

/// Duplicates of sockets whose bind has been let go on, by inode: a program that is refused often
/// ends at once, and its socket with it. One that listens is never among them, because as long as we
/// had a duplicate, it would go on taking connections that its program can no longer accept.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeptSockets(Arc<Mutex<KeptSocket>>);

#[derive(Debug, Default)]
struct KeptSocket {
    sockets: BTreeMap<u64, WorkerSocket>,
    /// Calls that nobody follows, because there were too many at once.
    lost: usize,
}

impl KeptSockets {
    /// Keeps it until its outcome is known, or it is about to listen. `false`: there is no room.
    pub(crate) fn keep(&self, socket: WorkerSocket) -> bool {
        let mut kept = self.kept();
        let has_room = kept.sockets.len() < MOST_KEPT;
        if has_room {
            kept.sockets.insert(socket.inode(), socket);
        }
        has_room
    }

    pub(crate) fn release(&self, inode: u64) {
        self.kept().sockets.remove(&inode);
    }

    /// The call on this socket is not followed, for want of room.
    pub(crate) fn lose(&self, inode: u64) {
        let mut kept = self.kept();
        kept.sockets.remove(&inode);
        kept.lost += 1;
    }

    /// How many were lost since the last time.
    fn take_lost(&self) -> usize {
        std::mem::take(&mut self.kept().lost)
    }

    /// Whether it is bound; `None` if it is not kept.
    fn is_bound(&self, inode: u64, protocol: Protocol) -> Option<Option<Address>> {
        let kept = self.kept();
        kept.sockets.get(&inode).map(|socket| socket.bound_address(protocol).ok().flatten())
    }

    fn kept(&self) -> MutexGuard<'_, KeptSocket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calls whose outcome is not known yet, by the socket's inode.
#[derive(Debug, Default)]
pub(crate) struct PendingCalls {
    followed: BTreeMap<u64, PendingCall>,
    bound: KeptSockets,
}

#[derive(Debug)]
struct PendingCall {
    asked: AnsweredCall,
    since: Duration,
    looks: usize,
}

/// What became of a call.
#[derive(Debug)]
pub(crate) enum CallOutcome {
    /// The socket now takes traffic for this address, or did a moment ago.
    Joined(Address),
    /// The kernel said no.
    Refused(AnsweredCall),
}

impl PendingCalls {
    /// Of calls on these sockets.
    pub(crate) fn new(bound: KeptSockets) -> Self {
        Self { followed: BTreeMap::new(), bound }
    }

    /// Follows a call that was answered at this time. A later call on the same socket replaces an
    /// earlier one: whoever listens has been allowed to bind.
    pub(crate) fn follow(&mut self, asked: AnsweredCall, now: Duration) {
        if self.followed.len() < MOST {
            self.followed.insert(asked.inode, PendingCall { asked, since: now, looks: 0 });
        } else {
            self.bound.lose(asked.inode);
        }
    }

    /// How many calls had to be let go unfollowed, once the storm is over.
    pub(crate) fn lost(&self) -> Option<usize> {
        let count = if self.followed.is_empty() { self.bound.take_lost() } else { 0 };
        (count > 0).then_some(count)
    }

    /// When to call [`Self::look`] next.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.followed.values().map(PendingCall::due).min()
    }

    /// Looks at every call that is due, and gives those whose outcome is now known.
    pub(crate) fn look(&mut self, now: Duration) -> Vec<CallOutcome> {
        self.settle(|followed| followed.due() <= now)
    }

    /// Looks at every call of threads that have ended, whether due or not.
    pub(crate) fn look_at_the_gone(&mut self) -> Vec<CallOutcome> {
        self.settle(|followed| thread_state(followed.asked.tid) == ThreadState::Gone)
    }

    fn settle(&mut self, which: impl Fn(&PendingCall) -> bool) -> Vec<CallOutcome> {
        let mut known = Vec::new();
        let chosen: Vec<u64> = self
            .followed
            .iter()
            .filter(|(_, followed)| which(followed))
            .map(|(inode, _)| *inode)
            .collect();
        for inode in chosen {
            let Some(mut followed) = self.followed.remove(&inode) else { continue };
            followed.looks += 1;
            match followed.state(&self.bound) {
                CallState::Open if followed.looks < LOOKS.len() => {
                    self.followed.insert(inode, followed);
                    continue;
                }
                CallState::Joined(address) => known.push(CallOutcome::Joined(address)),
                CallState::Refused => known.push(CallOutcome::Refused(followed.asked)),
                CallState::Settled | CallState::Open => {}
            }
            self.bound.release(inode);
        }
        known
    }
}

enum CallState {
    Joined(Address),
    Refused,
    /// There is nothing to tell: a TCP socket is bound, and we will be asked when it listens.
    Settled,
    Open,
}

impl PendingCall {
    fn due(&self) -> Duration {
        self.since + LOOKS[self.looks]
    }

    fn state(&self, bound: &KeptSockets) -> CallState {
        let AnsweredCall { tid, fd, inode, number, kind: step, protocol, address, .. } =
            &self.asked;
        // First where the thread is: what the socket is afterwards is then what the call has made
        // of it.
        let is_over = match thread_state(*tid) {
            ThreadState::Gone => true,
            ThreadState::Waiting(call) => call != *number,
            ThreadState::Running => false,
        };
        let refused_if_over = || if is_over { CallState::Refused } else { CallState::Open };
        match step {
            CallKind::Bind => match (bound.is_bound(*inode, *protocol), protocol) {
                // About to listen.
                (None, _) | (Some(Some(_)), Protocol::Tcp) => CallState::Settled,
                (Some(Some(address)), Protocol::Udp) => CallState::Joined(address),
                (Some(None), _) => refused_if_over(),
            },
            CallKind::Listen => match WorkerSocket::from_thread(*tid, *fd) {
                Ok(SocketAccess::Socket(socket)) if socket.inode() == *inode => {
                    match socket.is_listening() {
                        Ok(true) => CallState::Joined(address.clone()),
                        Ok(false) => refused_if_over(),
                        Err(_) => CallState::Settled,
                    }
                }
                // Closed, handed over, or of a thread that has ended: who is there will show.
                _ => CallState::Joined(address.clone()),
            },
        }
    }
}
