//! The notification protocol of service managers (`sd_notify(3)`), as client and as server.

pub mod notify;
mod notify_inbox;
mod notify_socket;

pub use notify_inbox::NotifyInbox;
pub use notify_socket::{NotifyRecord, NotifySocket, NotifyState};
