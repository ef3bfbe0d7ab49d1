//! A named run, from outside: asking its supervisor, and being asked.
//!
//! `messages` says what; `frame` makes bytes of it. The supervisor has a `door`, at which `serving`
//! attends to each client and hands on what it asks for; the verbs go by `asking`. What a supervisor
//! that was killed leaves for them is its `record`.

pub mod client;
pub mod codec;
pub mod command;
#[cfg(test)]
pub mod fixtures;
pub mod os_string_serde;
pub mod protocol;
pub mod record;
pub mod server;
pub mod socket;

pub use record::{RunInfo, RunRecord};
pub use server::{PendingRequest, Responder};
pub use socket::{ControlSocket, InheritedControlSocket};
