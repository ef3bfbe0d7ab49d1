//! The binary `sameport`: parses the command line, calls one operation, prints the result.
//!
//! `commands` has one file a verb, `operations` looks, decides and acts without printing, `output`
//! turns values into text and JSON. No other crate of the project reads arguments or the
//! environment, prints, or exits.

#![cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "other systems parse the verbs that only Linux has")
)]

mod commands;
mod duration;
mod error;
mod operations;
mod output;

use std::process::ExitCode;

fn main() -> ExitCode {
    match commands::parse().and_then(commands::Command::run) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
