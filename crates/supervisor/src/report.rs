//! What the interposers' threads send to the supervisor.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sameport_policy::model::{Address, Protocol};
use tokio::sync::mpsc::Sender;

use crate::conflict::RefusedCaller;
use crate::event::{OutOfReach, Remark, RunEvent};

/// Capacity of the channel to the supervisor, in reports. A full channel loses and counts reports of
/// binds; it never delays an answer to a worker.
pub(crate) const REPORT_QUEUE: usize = 1024;

/// What reaches the supervisor from the threads beside it.
pub(crate) enum Report {
    /// A call was answered, and its outcome is to be followed.
    CallAnswered(AnsweredCall),
    /// A worker's sockets cannot be reached.
    OutOfReach(i32, OutOfReach),
    /// A socket has joined this address.
    Joined(Address),
    /// A look is done.
    Event(RunEvent),
    /// A refusal, with its reason found already.
    Refused(RunEvent),
    /// The look under way is over.
    InspectionDone,
    /// Something to tell once.
    Remark(Remark),
}

/// A call that was answered, and whose outcome is worth knowing.
#[derive(Debug)]
pub(crate) struct AnsweredCall {
    pub tid: i32,
    /// The worker's descriptor, and the inode of the socket that it was.
    pub fd: i32,
    pub inode: u64,
    /// The system call's number, to tell when it is over.
    pub number: u32,
    pub kind: CallKind,
    pub protocol: Protocol,
    /// The address asked for, or the one it is to have instead.
    pub address: Address,
    /// Who asks, should it be refused.
    pub caller: RefusedCaller,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    Bind,
    Listen,
}

/// What a thread beside the supervisor has of it.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    pub(crate) sender: Sender<Report>,
    ended: Arc<AtomicBool>,
}

impl Reporter {
    pub(crate) fn new(sender: Sender<Report>) -> Self {
        Self { sender, ended: Arc::default() }
    }

    /// Every process has ended.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Does `work` again and again on a thread of its own, and once more when all is over.
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
