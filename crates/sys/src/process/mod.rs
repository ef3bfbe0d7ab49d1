//! A worker, seen and handled from outside: starting it, its sockets and memory, its processes.

mod attribution;
mod executable;
pub(crate) mod fd_table;
pub(crate) mod identity;
mod listen_fds;
mod memory;
mod signal_set;
pub mod signals;
mod spawn;
pub mod startup;
mod thread;
pub(crate) mod tree;

pub use attribution::{processes_by, processes_with, processes_without, value_in};
pub use executable::{FileCapability, gains_privilege, locate, may_filter_with_privileges};
pub use listen_fds::ListenFds;
pub use memory::read_memory;
pub use spawn::{SpawnOptions, SpawnedWorker, StartError, start};
pub use thread::{ThreadRights, ThreadState, doing, first_unprivileged_port, rights};
pub use tree::{
    EndedChild, adopt_orphans, descendants, is_descendant, lineage, reap, signal, signal_group,
};
pub(crate) use tree::{has_ended, is_gone, parent};
