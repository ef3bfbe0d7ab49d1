//! `cargo xtask bench`: builds the package `sameport-benches` in release, and runs it.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

/// Measure what sameport costs, side by side with doing without it
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// The benchmark and its options; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command.args(["run", "--release", "--quiet", "--package", "sameport-benches", "--"]);
    match command.args(&args.arguments).status() {
        Ok(status) => match status.code().and_then(|code| u8::try_from(code).ok()) {
            Some(code) => ExitCode::from(code),
            None => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("error: {}: {error}", cargo.display());
            ExitCode::FAILURE
        }
    }
}
