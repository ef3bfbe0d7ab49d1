//! File descriptors: inheritance across `exec`, waiting for readiness, and files of other processes.

mod duplicate;
mod foreign;
pub mod inherit;
pub(crate) mod own_table;
pub mod poll;

pub(crate) use duplicate::duplicate_from;
pub use foreign::{ForeignFd, closes_are_stuck};
