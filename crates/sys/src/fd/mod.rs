//! File descriptors: inheritance across `exec`, and waiting for readiness.

pub mod inherit;
pub mod poll;
