//! File descriptors: inheritance across `exec`, waiting for readiness, and files of other processes.

mod foreign;
pub mod inherit;
pub mod poll;

pub use foreign::{ForeignFd, closes_are_stuck};
