//! What the supervisor and the probe of a worker tell each other.

use std::ffi::OsString;

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::lifecycle::exit::Exit;
use tokio::sync::oneshot;

/// A command of a readiness check. The supervisor runs it, because it reaps all children.
#[derive(Debug)]
pub(crate) struct CheckCommand {
    pub(super) command: OsString,
    /// The first process of the worker.
    pub(crate) pid: i32,
    /// Gets how the command ended, or why it did not start.
    pub(super) ended: oneshot::Sender<CommandResult>,
}

/// How a command ended, or why it did not start.
pub(super) type CommandResult = Result<Exit, String>;

/// A worker to check.
#[derive(Debug)]
pub(crate) struct CheckedWorker {
    pub(crate) start: InstanceId,
    pub(crate) ordinal: u16,
    /// Its first process.
    pub(crate) pid: i32,
    /// Whether the lifecycle requires the addresses of a predecessor.
    pub(crate) has_predecessor: bool,
}

/// The result of a probe: the worker is ready, or why it is not yet.
pub(super) type ProbeResult = (InstanceId, Result<(), String>);
