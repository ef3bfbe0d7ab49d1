//! Sockets of workers, accessed through a duplicate of their descriptor.
//!
//! `worker_access` duplicates a socket, `worker_socket` examines it, `listener` opens one, `private_owner` changes its
//! owner, `idle_close` lets a server close an idle connection, `steering` selects the member of a group that gets new connections, `queue` is its accept
//! queue. Before a held socket replaces a new one, `sockopt_copy` gives it the same options
//! (`sockopt_list`), and `fd_alias` finds other references of the worker to the new one.

mod fd_alias;
mod foreign_address;
mod idle_close;
mod listener;
pub mod private_owner;
mod queue;
pub(crate) mod raw_option;
mod sockopt_copy;
mod sockopt_list;
mod steering;
pub(crate) mod unix;
pub(crate) mod worker_access;
pub(crate) mod worker_socket;

pub use fd_alias::{FdAlias, closes_on_exec, descriptor_inode, has_descriptor};
pub use idle_close::{CloseResult, IdleConnection, close_idle};
pub use listener::{open_listener, resolve_host};
pub use queue::AcceptQueue;
pub use sockopt_copy::{CopyError, NonBlocking};
pub use worker_access::{SocketAccess, check_worker_access};
pub use worker_socket::WorkerSocket;

#[cfg(test)]
pub(crate) use own_sockets::{set_defer_accept, until};

#[cfg(test)]
#[path = "own_sockets_tests.rs"]
mod own_sockets;
