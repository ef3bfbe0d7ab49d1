//! The control socket of a named run.
//!
//! `protocol` defines requests and replies, `codec` frames them as JSON. `socket` is the supervisor's
//! end, `server` serves its clients; `client` is the other end, for the verbs: `connection`, `client_error`. `record` is the file that
//! tells clients about a supervisor that was killed, `continuation` its part for the next supervisor, and
//! `abandoned` finds the workers that such a supervisor left.

mod abandoned;
pub mod canary;
pub mod client;
pub mod client_error;
pub mod codec;
pub mod command;
mod connection;
pub mod continuation;
pub mod counters;
#[cfg(test)]
pub mod fixtures;
pub mod os_string_serde;
mod ports;
pub mod protocol;
mod reconfigure;
pub mod record;
pub mod server;
pub mod socket;

pub use abandoned::holder_facts;
pub use record::{EndedRun, EndedWorker, RunHistory, RunInfo, RunRecord, StartLine};
pub use server::{PendingRequest, Responder};
pub use socket::{ControlSocket, InheritedControlSocket};
