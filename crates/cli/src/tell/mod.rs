//! Telling the person: text for people on stdout or stderr, JSON for programs.

pub(crate) mod arrivals;
#[cfg(target_os = "linux")]
pub(crate) mod attachments;
pub(crate) mod diagnosis;
pub(crate) mod exporting;
pub(crate) mod failure;
pub(crate) mod listing;
pub(crate) mod note;
pub(crate) mod opening;
#[cfg(target_os = "linux")]
pub(crate) mod refusal;
#[cfg(target_os = "linux")]
pub(crate) mod running;
#[cfg(target_os = "linux")]
pub(crate) mod starting;
pub(crate) mod stdout;
mod table;
