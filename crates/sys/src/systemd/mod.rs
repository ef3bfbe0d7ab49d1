//! The protocol of service managers: `sd_notify(3)`, as a client and as a server.

pub mod notify;
pub(crate) mod notify_socket;
