//! Facts about processes and settings, read from `/proc`.

pub(crate) mod ancestry;
pub(crate) mod cgroups;
pub(crate) mod details;
pub(crate) mod fd_scan;
pub(crate) mod same_program;
pub(crate) mod sysctl;
