//! The binary `sameport`: parses the command line, calls one operation, prints the result.
//!
//! `args` has what the command lines of several verbs share, `commands` one file a verb. `operations`
//! inspect, decide and act without printing; `output` writes text and JSON; `error` turns every error into
//! a message, a hint and an exit code; `system` lists the verbs of each system. No other crate of the
//! project prints, exits, or reads arguments or the environment, except that the library reads LISTEN_FDS and
//! its like for `PassedSockets`.

#![cfg_attr(
    not(target_os = "linux"),
    allow(
        dead_code,
        unused_imports,
        reason = "other systems only parse the arguments of most commands"
    )
)]

mod args;
mod commands;
mod error;
mod operations;
mod output;
mod system;

use std::process::ExitCode;

fn main() -> ExitCode {
    match commands::parse().and_then(commands::Command::run) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
