//! The lifecycle of workers: starting, ready, draining, gone.
//!
//! A state machine. Events and their times go in, [`Action`]s come out; nothing here waits, starts or
//! kills. Times count from any fixed moment.
//!
//! A worker has an ordinal, 1 to N. Each start of its command is an *instance*. One instance *serves*;
//! during a replacement, another one is *starting*; old instances *drain* and then *terminate*.

mod advance;
mod busy;
mod canary;
#[cfg(test)]
mod canary_tests;
mod crash;
#[cfg(test)]
mod drain_tests;
mod events;
pub mod exit;
mod held_sockets;
#[cfg(test)]
mod histories;
mod instance;
#[cfg(test)]
mod leave_tests;
mod model;
mod port_wait;
mod report;
mod request;
mod server_sockets;
mod snapshot;
mod state;
mod takeover;
#[cfg(test)]
mod tests;

pub use crash::CRASH_RESET;
pub use held_sockets::{Fallback, HeldSockets, QueueMode};
pub use model::{
    Action, BusyRequest, Canary, CanaryEnd, CanaryOutcome, ChangeReason, HeldPort, InstanceId,
    LifecycleSettings, NotReady, RequestFailure, RequestKind, RequestRefusal, RunOutcome,
    RunRequest, WaitsFor, WorkerChange, WorkerState, canary_workers,
};
pub use report::WorkerReport;
pub use server_sockets::OpenedSocket;
pub use snapshot::{CanarySnapshot, ServingWorker, Snapshot};
pub use state::Lifecycle;
