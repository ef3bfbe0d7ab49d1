//! System calls that the seccomp interposer intercepts, and the filter that selects them.

pub mod calls;
pub mod filter;
