//! Known offenders of the structural rules. Every list may only shrink, and ends empty.

/// Files that are in an import cycle.
#[rustfmt::skip] // One a line.
pub(crate) const FILES_IN_CYCLES: &[&str] = &[
    "crates/supervisor/src/pool/mod.rs",
    "crates/supervisor/src/pool/shared_listener.rs",
    "crates/supervisor/src/pool/store.rs",
    "crates/supervisor/src/pool/worker_view.rs",
];

/// `PACKAGE TYPE` for each name that two types of a package share.
#[rustfmt::skip] // One a line.
pub(crate) const DUPLICATE_TYPES: &[&str] = &[
];

/// `PACKAGE -> PACKAGE` for dependencies that the architecture does not have.
#[rustfmt::skip] // One a line.
pub(crate) const DEPENDENCIES: &[&str] = &[
];

/// `FILE FUNCTION` for functions of more than 80 lines.
#[rustfmt::skip] // One a line.
pub(crate) const LONG_FUNCTIONS: &[&str] = &[
    "crates/supervisor/src/interpose/seccomp/handler.rs prepare",
    "crates/supervisor/src/interpose/seccomp/handler.rs bind",
];

/// `FILE STRUCT` for structs of the supervisor with more than 12 fields.
#[rustfmt::skip] // One a line.
pub(crate) const LARGE_STRUCTS: &[&str] = &[
    "crates/supervisor/src/named/supervisor.rs Supervisor",
    "crates/supervisor/src/handover.rs HandoverState",
    "crates/supervisor/src/pool/mod.rs PoolState",
];

/// Packages with more than 3 `pub(in …)` per 1,000 lines.
#[rustfmt::skip] // One a line.
pub(crate) const MANY_PUB_IN: &[&str] = &[
];
