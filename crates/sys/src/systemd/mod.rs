//! Service managers: the notification protocol (`sd_notify(3)`), as client and as server, the journal, and
//! the facts about units.

pub mod drop_in;
mod journal;
pub mod notify;
mod notify_inbox;
mod notify_socket;
pub mod unit_files;
mod units;

pub use journal::is_journal;
pub use notify_inbox::NotifyInbox;
pub use notify_socket::{NotifyRecord, NotifySocket, NotifyState};
pub use units::{is_booted, own_cgroup, show as show_units};
