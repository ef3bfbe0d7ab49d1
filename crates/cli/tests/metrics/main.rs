//! `metrics`: scrapes, readiness, misbehaving clients, and a real Prometheus.
#![cfg(target_os = "linux")]

mod catalog;
mod counters;
mod exporter;
#[path = "../harness/mod.rs"]
mod harness;
mod hostile;
mod prometheus;
mod readiness;
mod scrape;
