//! When a worker counts as ready: the addresses that it must listen on, and the HTTP probe.

mod first_start;
mod http;

pub use first_start::{FirstStartFacts, FirstStartVerdict, listen_key};
pub use http::{HttpTarget, HttpTargetError, status_of};
