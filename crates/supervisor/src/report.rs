//! Messages of the interposers' threads to the supervisor.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sameport_policy::holder::Holder;
use sameport_policy::join_debounce::Sharer;
use sameport_policy::model::{Address, Protocol};
use tokio::sync::mpsc::Sender;

use crate::conflict::RefusedCaller;
use crate::event::{ContestedTraffic, OutOfReach, Remark, RunEvent};

/// Capacity of the channel to the supervisor, in reports. A full channel loses and counts reports of
/// binds; it never delays an answer to a worker.
pub(crate) const REPORT_QUEUE: usize = 1024;

/// A message of an interposer's thread to the supervisor.
#[derive(Debug)]
pub(crate) enum Report {
    /// A worker's call was answered and its outcome is unknown.
    CallAnswered(AnsweredCall),
    /// The sockets of this thread cannot be reached.
    OutOfReach(i32, OutOfReach),
    /// A socket was bound to this address, with `SO_REUSEPORT`. Whether it listens is not known.
    Bound(Address),
    /// The result of inspecting an address that a socket has joined.
    Inspected(SharedAddress),
    /// The result of an inspection.
    Event(RunEvent),
    /// A refusal and its reason.
    Refused(RunEvent),
    /// The running inspection ended.
    InspectionDone,
    /// A remark, which is reported once.
    Remark(Remark),
}

/// The result of inspecting an address that a socket has joined.
#[derive(Debug)]
pub(crate) struct SharedAddress {
    /// The address of the bind.
    pub(crate) bound: Address,
    /// The same as the kernel lists it.
    pub(crate) address: Address,
    /// The programs that share it.
    pub(crate) sharers: Vec<(Sharer, Holder)>,
    /// Traffic that a socket on the address takes from one on another address, or loses to it.
    pub(crate) contests: Vec<ContestedTraffic>,
    /// Whether a socket of this run takes traffic, and none waits for its `listen`.
    pub(crate) is_settled: bool,
}

/// A call that was answered and whose outcome the supervisor wants to know.
#[derive(Debug)]
pub(crate) struct AnsweredCall {
    /// The calling thread.
    pub tid: i32,
    /// The worker's descriptor.
    pub fd: i32,
    /// The inode of its socket at the time of the call.
    pub inode: u64,
    /// The system call number: the thread is in the call as long as /proc shows this number.
    pub number: u32,
    pub kind: CallKind,
    pub protocol: Protocol,
    /// The address in the call, or the address of the map rule.
    pub address: Address,
    /// Facts about the caller, to explain a refusal.
    pub caller: RefusedCaller,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    Bind,
    Listen,
}

/// Connects a thread of an interposer to the supervisor.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    pub(crate) sender: Sender<Report>,
    ended: Arc<AtomicBool>,
}

impl Reporter {
    pub(crate) fn new(sender: Sender<Report>) -> Self {
        Self { sender, ended: Arc::default() }
    }

    /// Ends the threads: no worker process is left.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Calls `work` repeatedly on a thread of its own, and once more after [`Self::end`].
    pub(crate) fn repeat(
        self,
        mut work: impl FnMut(&Sender<Report>) + Send + 'static,
    ) -> io::Result<()> {
        let repeating = move || {
            while !self.ended.load(Ordering::Acquire) {
                work(&self.sender);
            }
            work(&self.sender);
        };
        std::thread::Builder::new().name("reports".into()).spawn(repeating).map(drop)
    }
}
