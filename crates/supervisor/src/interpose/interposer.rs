//! The common part of the interposers: options for the start of a worker, a thread beside the workers,
//! and the end.

use std::fmt::Debug;
use std::io;

use sameport_sys::process::SpawnOptions;
use sameport_sys::seccomp::NotifyListener;

use super::kept::KeptSockets;
use crate::error::RunError;
use crate::pool::WorkerSockets;
use crate::report::Reporter;
use crate::traffic::listens::OrderedListens;

/// Why the workers' calls cannot be left to another program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandoverObstacle {
    /// This interposer ends with its program.
    Kind,
    /// The answer to a worker's call does not end.
    AnswerBlocked,
}

/// A way to change the binds of unmodified programs.
pub(crate) trait Interposer: Debug {
    /// The name, as in `--via`.
    fn name(&self) -> &'static str;

    /// The options that the worker with this ordinal is started with.
    fn spawn_options(&self, ordinal: u16) -> SpawnOptions<'_>;

    /// Starts the interposer's work on a thread of its own. `pids` are the workers that run already,
    /// `listeners` are their seccomp listeners, in the order of their ordinals.
    fn start(
        &mut self,
        pids: &[i32],
        listeners: Vec<NotifyListener>,
        reporter: Reporter,
    ) -> Result<(), RunError>;

    /// Answers the calls of one more worker, with these held sockets.
    fn answer_worker(
        &self,
        _listener: NotifyListener,
        _ordinal: u16,
        _held: Option<WorkerSockets>,
    ) -> io::Result<()> {
        Ok(())
    }

    /// Whether workers wait for an answer at each bind, so that the supervisor knows all their
    /// sockets.
    fn sees_every_bind(&self) -> bool {
        false
    }

    /// Stops answering, and leaves the workers' calls to the program that takes over. After a failure,
    /// [`Self::start`] answers again.
    fn stop(&mut self) -> Result<(), HandoverObstacle> {
        Err(HandoverObstacle::Kind)
    }

    /// Declares that no other worker will start.
    fn no_more_workers(&mut self) {}

    /// Duplicates of sockets whose bind is followed.
    fn kept_sockets(&self) -> KeptSockets {
        KeptSockets::default()
    }

    /// The groups of a run that holds no sockets, if a policy needs their order.
    fn ordered_listens(&self) -> Option<OrderedListens> {
        None
    }

    /// Records which options were used and removes what the interposer left behind. No worker
    /// process is left.
    fn finish(self: Box<Self>) {}
}
