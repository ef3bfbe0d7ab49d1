//! `cargo xtask wine`: the portable tests as Windows programs, under Wine.
//!
//! Debian's Rust builds them for `x86_64-pc-windows-gnu`, with the standard library from its source and the
//! linker of MinGW. Wine 8 refuses a second TCP socket with SO_REUSEADDR, which Windows admits: `facts.c`
//! shows it without Rust, and the tests expect it there.

mod build;
mod failure;
mod prefix;
mod report;

use std::process::ExitCode;
use std::time::Instant;

use build::Built;
use failure::WineFailure;
use prefix::Prefix;
use report::Report;

/// Run the tests of every system as Windows programs, under Wine
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only build them, for a later run
    #[arg(long)]
    build: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let started = Instant::now();
    match tables(args.build) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(report)) => {
            print!("{report}");
            eprintln!("{}, {} s", report.summary(), started.elapsed().as_secs());
            if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(WineFailure::Missing(what, hint)) => {
            eprintln!("error: {what}");
            eprintln!("hint: apt-get install {hint}");
            ExitCode::from(3)
        }
        Err(WineFailure::Failed(message)) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Builds first, so that Wine runs for seconds. No report without a run.
fn tables(only_build: bool) -> Result<Option<Report>, WineFailure> {
    crate::targets::toolchain()
        .map_err(|what| WineFailure::Missing(what, crate::targets::PACKAGES))?;
    prefix::check()?;
    let mut report = Report::default();
    let since = Instant::now();
    let executables = build::tests()?;
    eprintln!("built {} test executables, {} s", executables.len(), since.elapsed().as_secs());
    if only_build {
        return Ok(None);
    }
    let prefix = Prefix::new()?;
    report.wine = prefix.version()?;
    let facts = prefix.compile("facts.c", include_str!("facts.c"), "facts.exe", &["-lws2_32"])?;
    report.add_facts(&prefix.run(&facts, &[])?);
    for Built { name, path } in executables {
        report.add_tests(&name, &prefix.run(&path, &[])?);
    }
    Ok(Some(report))
}
