//! Directories of cgroup version 2.

pub(crate) mod dir;
pub(crate) mod mounts;
pub(crate) mod private;
