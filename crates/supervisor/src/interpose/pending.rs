//! The outcome of calls that workers made themselves after the answer.
//!
//! The kernel does not report it. But the socket can be inspected again: it is bound (or listens) soon
//! after, or the thread has left the call and it is not. Only what is certain is reported: a false
//! refusal would be worse than an unexplained one.

use std::collections::BTreeMap;
use std::time::Duration;

use sameport_policy::model::{Address, Protocol};
use sameport_sys::process::{ThreadState, thread_state};
use sameport_sys::socket::{SocketAccess, WorkerSocket};

use super::kept::KeptSockets;
use crate::report::{AnsweredCall, CallKind};

/// When a call is inspected, counted from the answer. A call that takes longer is not followed any
/// further.
const INSPECTIONS: [Duration; 7] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(60),
    Duration::from_millis(200),
    Duration::from_millis(600),
    Duration::from_secs(2),
];

/// The limit of calls that are followed at once. More calls are answered all the same, and counted.
const MOST: usize = 1024;

/// The calls whose outcome is not known yet, by the socket's inode.
#[derive(Debug, Default)]
pub(crate) struct PendingCalls {
    calls: BTreeMap<u64, PendingCall>,
    kept: KeptSockets,
}

#[derive(Debug)]
struct PendingCall {
    call: AnsweredCall,
    answered_at: Duration,
    inspections: usize,
}

/// The outcome of a call.
#[derive(Debug)]
pub(crate) enum CallOutcome {
    /// The socket takes traffic for this address, or did a moment ago.
    Joined(Address),
    /// The kernel refused the call.
    Refused(AnsweredCall),
}

impl PendingCalls {
    /// Follows calls on these sockets.
    pub(crate) fn new(kept: KeptSockets) -> Self {
        Self { calls: BTreeMap::new(), kept }
    }

    /// Follows a call that was answered at this time. A later call on the same socket replaces an
    /// earlier one: a socket that listens has been bound.
    pub(crate) fn follow(&mut self, call: AnsweredCall, now: Duration) {
        if self.calls.len() < MOST {
            let inode = call.inode;
            self.calls.insert(inode, PendingCall { call, answered_at: now, inspections: 0 });
        } else {
            self.kept.lose(call.inode);
        }
    }

    /// The number of calls that could not be followed, once every followed call has its outcome.
    pub(crate) fn lost(&self) -> Option<usize> {
        let count = if self.calls.is_empty() { self.kept.take_lost() } else { 0 };
        (count > 0).then_some(count)
    }

    /// When to call [`Self::inspect_due`] next.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.calls.values().map(PendingCall::due).min()
    }

    /// Inspects every call that is due, and returns the outcomes that are now known.
    pub(crate) fn inspect_due(&mut self, now: Duration) -> Vec<CallOutcome> {
        self.inspect(|call| call.due() <= now)
    }

    /// Inspects every call of a thread that has ended, whether due or not.
    pub(crate) fn inspect_ended(&mut self) -> Vec<CallOutcome> {
        self.inspect(|pending| thread_state(pending.call.tid) == ThreadState::Gone)
    }

    fn inspect(&mut self, which: impl Fn(&PendingCall) -> bool) -> Vec<CallOutcome> {
        let mut known = Vec::new();
        let chosen = self.calls.iter().filter(|(_, pending)| which(pending));
        let chosen: Vec<u64> = chosen.map(|(inode, _)| *inode).collect();
        for inode in chosen {
            let Some(mut pending) = self.calls.remove(&inode) else { continue };
            pending.inspections += 1;
            match pending.state(&self.kept) {
                CallState::Open if pending.inspections < INSPECTIONS.len() => {
                    self.calls.insert(inode, pending);
                    continue;
                }
                CallState::Joined(address) => known.push(CallOutcome::Joined(address)),
                CallState::Refused => known.push(CallOutcome::Refused(pending.call)),
                CallState::Settled | CallState::Open => {}
            }
            self.kept.release(inode);
        }
        known
    }
}

enum CallState {
    Joined(Address),
    Refused,
    /// Nothing to report: a TCP socket is bound, and its `listen` will be answered too.
    Settled,
    Open,
}

impl PendingCall {
    fn due(&self) -> Duration {
        self.answered_at + INSPECTIONS[self.inspections]
    }

    fn state(&self, kept: &KeptSockets) -> CallState {
        match self.call.kind {
            CallKind::Bind => self.state_of_bind(kept),
            CallKind::Listen => self.state_of_listen(),
        }
    }

    fn state_of_bind(&self, kept: &KeptSockets) -> CallState {
        let AnsweredCall { inode, protocol, .. } = self.call;
        let bound = || match (kept.bound_address(inode, protocol), protocol) {
            // About to listen.
            (None, _) | (Some(Some(_)), Protocol::Tcp) => Some(CallState::Settled),
            (Some(Some(address)), Protocol::Udp) => Some(CallState::Joined(address)),
            (Some(None), _) => None,
        };
        // A socket that is bound needs no look at its thread. Of one that is not, the thread's state
        // comes first: what the socket is afterwards is the result of the call.
        bound().unwrap_or_else(|| match self.is_over() {
            true => bound().unwrap_or(CallState::Refused),
            false => CallState::Open,
        })
    }

    fn state_of_listen(&self) -> CallState {
        let AnsweredCall { tid, fd, inode, address, .. } = &self.call;
        let is_over = self.is_over();
        match WorkerSocket::from_thread(*tid, *fd) {
            Ok(SocketAccess::Socket(socket)) if socket.inode() == *inode => {
                match socket.is_listening() {
                    Ok(true) => CallState::Joined(address.clone()),
                    Ok(false) if is_over => CallState::Refused,
                    Ok(false) => CallState::Open,
                    Err(_) => CallState::Settled,
                }
            }
            // Closed, replaced by a held socket, or of a thread that has ended: the sockets on the
            // address will tell.
            _ => CallState::Joined(address.clone()),
        }
    }

    /// Whether the thread has left the call.
    fn is_over(&self) -> bool {
        match thread_state(self.call.tid) {
            ThreadState::Gone => true,
            ThreadState::Waiting(call) => call != self.call.number,
            ThreadState::Running => false,
        }
    }
}
