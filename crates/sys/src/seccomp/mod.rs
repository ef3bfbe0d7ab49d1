//! Seccomp user notification: a worker's `bind` and `listen` stop in the kernel and ask us.
//!
//! [`install`] runs in the worker before it becomes the program, [`Listener`] in the supervisor.
//! Source: `seccomp(2)`, `seccomp_unotify(2)`, `kernel/seccomp.c`.

mod install;
mod listener;
mod listener_set;

pub use install::{FilterInstall, InstallStage, install};
pub(crate) use listener::add_fd;
pub use listener::{ListenerState, Notification, NotifyListener};
pub use listener_set::ListenerSet;
