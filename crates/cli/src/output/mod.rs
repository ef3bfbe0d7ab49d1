//! Telling the person: text for people on stdout or stderr, JSON for programs.

#[cfg(target_os = "linux")]
mod ago;
pub(crate) mod arrivals;
#[cfg(target_os = "linux")]
pub(crate) mod attachments;
#[cfg(target_os = "linux")]
pub(crate) mod audit;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod export_error;
#[cfg(target_os = "linux")]
pub(crate) mod guard_log;
#[cfg(target_os = "linux")]
pub(crate) mod guards;
mod json_line;
pub(crate) mod listing;
pub(crate) mod listing_json;
pub(crate) mod note;
pub(crate) mod open_error;
#[cfg(target_os = "linux")]
pub(crate) mod refusal;
#[cfg(target_os = "linux")]
pub(crate) mod run_changes;
#[cfg(target_os = "linux")]
pub(crate) mod run_events;
pub(crate) mod screen;
#[cfg(target_os = "linux")]
#[cfg(target_os = "linux")]
mod shell;
#[cfg(target_os = "linux")]
pub(crate) mod start_error;
#[cfg(target_os = "linux")]
pub(crate) mod status;
pub(crate) mod stdout;
mod table;
#[cfg(target_os = "linux")]
pub(crate) mod why;
