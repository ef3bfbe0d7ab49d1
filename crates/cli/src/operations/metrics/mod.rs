//! `metrics`: what Prometheus reads about runs, addresses and findings, and whether runs are ready.
//!
//! `collect` asks and looks, `runs` and `audits` do so in threads, `run_samples` and `port_samples` turn answers
//! into samples, `exposition` writes these; `endpoint` opens the address, `server` serves it, `flight` lets one
//! collection serve all clients that came meanwhile.

mod audits;
mod collect;
pub(crate) mod endpoint;
mod exposition;
mod flight;
mod port_samples;
mod run_samples;
mod runs;
pub(crate) mod server;

use std::time::Duration;

use sameport_policy::bind::verdict::SharedPort;
use sameport_policy::model::name::RunName;

pub(crate) use collect::Exporter;

/// What has metrics.
#[derive(Debug, Clone, Default)]
pub(crate) struct MetricsRequest {
    /// Only these runs; empty: all that this user can see.
    pub(crate) runs: Vec<RunName>,
    /// Only these ports; empty: all.
    pub(crate) ports: Vec<SharedPort>,
    /// Also addresses with one socket that belongs to no run.
    pub(crate) all: bool,
    /// The time between two audits; `None`: no audit.
    pub(crate) audit: Option<Duration>,
}
