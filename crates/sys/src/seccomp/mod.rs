//! Seccomp user notification: a worker's `bind` or `listen` blocks in the kernel until the supervisor
//! answers it.
//!
//! [`install`] runs in the worker before its exec, [`NotifyListener`] is the supervisor's side. See
//! `seccomp(2)`, `seccomp_unotify(2)` and `kernel/seccomp.c`.

mod inherited;
mod install;
mod listener;
mod listener_wait;

pub(crate) use inherited::permits;
pub use inherited::refused_calls;
pub use install::{FilterInstall, InstallStage, install};
pub(crate) use listener::add_fd;
pub use listener::{Notification, NotifyListener};
pub use listener_wait::{ListenerWait, StopSignal};
