//! A worker, seen and handled from outside: starting it, its sockets and memory, its processes.

mod memory;
mod program;
mod socket;
mod start;
mod thread;
mod tree;

pub use memory::read_memory;
pub use program::{Gain, gains_privilege, locate, may_filter_with_privileges};
pub use socket::{Reach, WorkerSocket, try_reaching_ourselves};
pub use start::{Setting, StartError, Worker, start};
pub use thread::{Doing, Rights, doing, first_unprivileged_port, rights};
pub use tree::{Ended, adopt_orphans, descendants, is_descendant, reap, signal};
