//! The operations of the verbs, one file each. Nothing here prints or exits.

#[cfg(target_os = "linux")]
pub(crate) mod attach;
#[cfg(target_os = "linux")]
pub(crate) mod audit;
#[cfg(target_os = "linux")]
pub(crate) mod detach;
pub(crate) mod dial;
pub(crate) mod examine;
pub(crate) mod export;
#[cfg(target_os = "linux")]
pub(crate) mod guard;
pub(crate) mod list;
pub(crate) mod listen;
#[cfg(target_os = "linux")]
pub(crate) mod named_runs;
#[cfg(target_os = "linux")]
pub(crate) mod revive;
#[cfg(target_os = "linux")]
pub(crate) mod runtime_dir;
#[cfg(target_os = "linux")]
pub(crate) mod top;
#[cfg(target_os = "linux")]
pub(crate) mod traffic;
#[cfg(target_os = "linux")]
pub(crate) mod why;
