//! Starting workers, and access to their threads, memory and processes.

pub(crate) mod capability;
mod credentials;
mod descend;
mod detached;
mod environment;
mod executable;
mod execution;
mod exempt;
pub(crate) mod fd_table;
mod foreign;
pub(crate) mod identity;
mod listen_fds;
pub(crate) mod masked_thread;
mod memory;
mod reap;
pub(crate) mod signal_set;
pub mod signals;
mod spawn;
pub mod start_messages;
pub mod startup;
mod thread;
pub(crate) mod tree;

pub use capability::{has_cap_sys_admin, has_cap_sys_ptrace};
pub use credentials::{Credentials, may_change_user};
pub use descend::{Descendant, children, descendants, descendants_of, own_children};
pub(crate) use detached::without_descriptors;
pub use detached::{DetachedCommand, environment_of, replace_output};
pub use environment::env_value;
pub use executable::{FileCapability, file_capability, find_in_path};
pub use execution::{Execution, execution};
pub(crate) use exempt::exempt;
pub use fd_table::LastThread;
pub use foreign::{ForeignProcess, members_of_group};
pub use listen_fds::ListenFds;
pub use memory::read_memory;
pub use reap::{EndedChild, reap};
pub use spawn::{SpawnOptions, SpawnedWorker, StartError, spawn};
pub use thread::{ThreadRights, ThreadState, first_unprivileged_port, thread_rights, thread_state};
pub use tree::{
    adopt_orphans, ancestry, group_of, is_descendant, is_exiting, is_stopped, leads_session,
    parent_of, signal, signal_group, wait_exit,
};
pub(crate) use tree::{is_gone, parent, thread_has_ended};
