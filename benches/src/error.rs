//! The reason why a benchmark has no result.

/// One line for a person. The exit code is 1.
pub(crate) type BenchError = String;
