//! A worker, seen and handled from outside: starting it, its sockets and memory, its processes.

mod attribution;
mod memory;
mod notices;
mod passing;
mod program;
mod socket;
mod start;
mod thread;
mod tree;

pub use attribution::{processes_by, processes_with, processes_without, value_in};
pub use memory::read_memory;
pub use notices::{Notice, Notices, Said};
pub use passing::Passed;
pub use program::{Gain, gains_privilege, locate, may_filter_with_privileges};
pub(crate) use socket::same_descriptors;
pub use socket::{Reach, WorkerSocket, try_reaching_ourselves};
pub use start::{Setting, StartError, Worker, start};
pub use thread::{Doing, Rights, doing, first_unprivileged_port, rights};
pub use tree::{
    Ended, adopt_orphans, descendants, is_descendant, lineage, reap, signal, signal_group,
};
pub(crate) use tree::{has_ended, is_gone, parent, session_of};
