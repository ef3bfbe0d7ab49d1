//! Who holds a socket: one classification for `why`, `run`, `ls`, `audit` and `guard`.
//!
//! A socket can be open in processes that do not serve it: a service manager that keeps a listener for a
//! unit, the supervisor of a named run. [`classify`] sets them aside, and names the process that serves
//! the socket and the program that would start it again. [`endings`] and [`Sharing`] say how the socket is
//! closed or shared, and with which user's rights.
//!
//! Names of programs, command lines and environments are chosen by the processes. They select words and
//! advice, never a permission.

mod binders;
mod classify;
mod container;
mod describe;
mod ending;
#[cfg(test)]
mod fixtures;
mod model;
mod sharing;
mod supervision;
mod task;
#[cfg(test)]
mod tests;

pub use binders::binders;
pub use classify::{MOST_ANCESTORS, classify, classify_all, needs_facts, time_wait, unit_of};
pub use container::{ContainerName, proxy_container};
pub use ending::{Ending, EndingStep, Rights, endings};
pub use model::{
    ConnectionEnd, Holder, HolderClass, HolderFacts, Keeper, ListenAddress, Manager, ProcessFacts,
    RunWorker, Supervision, Task, TaskTool, Unit, UnitFacts, UnitOfHolder,
};
pub use sharing::{Sharing, command};
pub use supervision::manager_of;
pub use task::task_tool;
