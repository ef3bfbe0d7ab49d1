//! Held sockets: what is done to a worker's socket through our duplicate of it, so that it outlives
//! the worker and no client notices.
//!
//! `steering` says who gets new connections, `queue` keeps those that nobody accepts yet, `carrying`
//! makes the held socket like the new one in whose place it is put (`carried` lists in what), `ties`
//! knows what else a worker has to do with a socket, `options` moves bytes in and out of socket options.

mod fd_alias;
mod listener;
pub mod private_owner;
mod queue;
mod raw_option;
mod sockopt_copy;
mod sockopt_list;
mod steering;
pub(crate) mod unix;
pub(crate) mod worker_socket;

pub use fd_alias::{FdAlias, closes_on_exec};
pub use listener::{open_listener, resolve_host};
pub use queue::AcceptQueue;
pub use sockopt_copy::{CopyError, NonBlocking};
pub use worker_socket::{SocketAccess, WorkerSocket, check_worker_access};

#[cfg(test)]
pub(crate) use own_sockets::{set_defer_accept, until};

#[cfg(test)]
#[path = "own_sockets_tests.rs"]
mod own_sockets;
