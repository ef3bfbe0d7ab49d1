//! The protocol of service managers: `sd_notify(3)`, as a client and as a server.

pub mod notify;
mod notify_socket;

pub use notify_socket::{NotifyRecord, NotifySocket, NotifyState};
