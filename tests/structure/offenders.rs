//! Known offenders of the structural rules. Every list may only shrink, and ends empty.

/// Files that are in an import cycle.
#[rustfmt::skip] // One a line.
pub(crate) const FILES_IN_CYCLES: &[&str] = &[
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
];

/// `FILE STRUCT` for structs of the supervisor with more than 12 fields.
#[rustfmt::skip] // One a line.
pub(crate) const LARGE_STRUCTS: &[&str] = &[
];

/// Packages with more than 3 `pub(in …)` per 1,000 lines.
#[rustfmt::skip] // One a line.
pub(crate) const MANY_PUB_IN: &[&str] = &[
];
