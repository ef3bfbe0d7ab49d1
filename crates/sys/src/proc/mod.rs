//! Processes and kernel settings, read from `/proc`.

mod ancestry;
pub(crate) mod cgroups;
pub(crate) mod details;
pub(crate) mod fd_scan;
mod processors;
mod same_program;
pub(crate) mod sysctl;
mod tcp_counters;

pub(crate) use ancestry::command_line;
pub use ancestry::{ProcessCommand, ancestor_commands, program_name, working_directory};
pub use details::StartTimes;
pub use processors::processors;
pub use same_program::{ancestors, executable_id};
pub use sysctl::{check_ptrace_scope, kernel_settings};
pub use tcp_counters::passive_opens;
