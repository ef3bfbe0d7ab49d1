//! Output: text on stdout and stderr, and JSON on stdout.

#[cfg(target_os = "linux")]
pub(crate) mod attach;
#[cfg(target_os = "linux")]
pub(crate) mod audit;
#[cfg(target_os = "linux")]
mod canary;
pub(crate) mod completions;
pub(crate) mod doctor;
#[cfg(target_os = "linux")]
pub(crate) mod ended;
#[cfg(target_os = "linux")]
pub(crate) mod guard;
#[cfg(target_os = "linux")]
pub(crate) mod holder;
#[cfg(target_os = "linux")]
pub(crate) mod install_service;
mod json;
pub(crate) mod listen;
#[cfg(target_os = "linux")]
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod manual;
#[cfg(target_os = "linux")]
pub(crate) mod run;
pub(crate) mod screen;
pub(crate) mod shell;
pub(crate) mod socket_owner;
#[cfg(target_os = "linux")]
pub(crate) mod status;
pub(crate) mod stderr;
pub(crate) mod stdout;
mod table;
pub(crate) mod text;
#[cfg(target_os = "linux")]
pub(crate) mod top;
#[cfg(target_os = "linux")]
pub(crate) mod traffic;
#[cfg(target_os = "linux")]
pub(crate) mod up;
#[cfg(target_os = "linux")]
pub(crate) mod why;
