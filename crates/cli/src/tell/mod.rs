//! Telling the person: text for people on stdout or stderr, JSON for programs.

pub(crate) mod arrivals;
pub(crate) mod diagnosis;
pub(crate) mod failure;
pub(crate) mod listing;
pub(crate) mod note;
pub(crate) mod opening;
#[cfg(target_os = "linux")]
pub(crate) mod refusal;
#[cfg(target_os = "linux")]
pub(crate) mod running;
pub(crate) mod stdout;
mod table;
