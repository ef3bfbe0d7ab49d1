//! When a worker counts as ready: the addresses that it must listen on, and the HTTP probe. When a run
//! counts as ready for a load balancer.

mod first_start;
mod http;
mod run_health;

pub use first_start::{FirstStartFacts, FirstStartVerdict, listen_key};
pub use http::{HttpTarget, HttpTargetError, status_of};
pub use run_health::{
    DownReason, RunFacts, RunHealth, RunSight, health_after, health_without_answer, run_health,
};
