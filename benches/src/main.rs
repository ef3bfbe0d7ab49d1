//! Benchmarks of sameport on this machine: `cargo xtask bench BENCHMARK`.
//!
//! Every comparison is measured side by side, in turns: the load of the machine changes every figure
//! and leaves the ratios. `docs/benchmarks.md` says how to read them.

#[cfg(target_os = "linux")]
mod balance;
#[cfg(target_os = "linux")]
mod binds;
#[cfg(target_os = "linux")]
#[path = "../../crates/cli/tests/harness/load/mod.rs"]
#[allow(dead_code, reason = "datagrams are for tests")]
mod client_load;
#[cfg(target_os = "linux")]
#[path = "../../crates/cli/tests/never_drop/clients.rs"]
mod clients;
#[cfg(target_os = "linux")]
mod command_line;
#[cfg(target_os = "linux")]
mod error;
#[cfg(target_os = "linux")]
mod figures;
#[cfg(target_os = "linux")]
mod fleet;
#[cfg(target_os = "linux")]
mod guard;
#[cfg(target_os = "linux")]
mod harness;
#[cfg(target_os = "linux")]
mod inspect;
#[cfg(target_os = "linux")]
#[path = "../../crates/cli/tests/fleet/lab/mod.rs"]
#[allow(dead_code, reason = "a test uses the rest")]
mod lab;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod metrics;
#[cfg(target_os = "linux")]
mod rates;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod restart;
#[cfg(target_os = "linux")]
mod sets;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(target_os = "linux")]
mod subject;
#[cfg(target_os = "linux")]
mod workers;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    command_line::run()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("error: the benchmarks need Linux: they measure `sameport run` and `sameport ls`");
    ExitCode::from(3)
}
