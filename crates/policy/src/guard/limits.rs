//! Limits of the guard program, `crates/sys/bpf/guard.bpf.c`.

/// The longest name of a cgroup in a rule, in bytes.
pub const MAX_CGROUP_NAME: usize = 154;

/// The deepest cgroup of a rule, and the deepest that the program examines.
pub const MAX_CGROUP_DEPTH: usize = 16;
