//! cgroup version 2: finding cgroups, and private ones for the workers of a run.

pub(crate) mod dir;
pub(crate) mod mounts;
pub(crate) mod private;

pub use dir::{Cgroup, CgroupError, unit_name};
pub use private::{PrivateCgroup, sweep};
