//! Socket lists from `NETLINK_SOCK_DIAG`.

pub(crate) mod connections;
pub(crate) mod inet_diag;
pub(crate) mod sock_diag;
pub(crate) mod sockets;
pub(crate) mod time_wait;
