//! `cargo xtask bench`: what sameport costs, measured on the machine at hand.
//!
//! Everything is measured side by side, in turns: two cores and a busy evening change every figure,
//! and leave the ratios. `docs/benchmarks.md` says how to read them.

mod binds;
#[path = "../../../crates/cli/tests/never_drop/clients.rs"]
mod clients;
mod figures;
mod guarding;
mod load;
mod look;
mod rates;
mod report;
mod restart;
mod soak;
mod stage;
pub(crate) mod subject;

use std::path::PathBuf;
use std::process::ExitCode;

/// Measure what sameport costs, in release builds, side by side with doing without it
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    benchmark: Benchmark,
    /// Write the figures as JSON to this file, too (`-`: to stdout, and no table)
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Benchmark {
    Run(rates::Args),
    Bind(binds::Args),
    Soak(soak::Args),
    Restart(restart::Args),
    Guard(guarding::Args),
    Look(look::Args),
}

/// Why there is no result. Exit code 1.
type BenchError = String;

pub(crate) fn run(args: &Args) -> ExitCode {
    let mut report = match report::FigureReport::open(args.json.as_deref()) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: --json: {error}");
            return ExitCode::from(2);
        }
    };
    if cfg!(debug_assertions) {
        // Only on failure does this come back.
        return failed(&stage::again_in_release());
    }
    let in_namespaces = match &args.benchmark {
        Benchmark::Restart(args) => Some(args.alone),
        Benchmark::Look(args) => Some(args.alone),
        _ => None,
    };
    if in_namespaces == Some(false) {
        return failed(&stage::again_alone());
    }
    if let Benchmark::Guard(args) = &args.benchmark
        && !args.alone
    {
        return failed(&guarding::again_alone());
    }
    let result = stage::sameport().and_then(|sameport| match &args.benchmark {
        Benchmark::Run(args) => rates::measure(args, &sameport, &mut report),
        Benchmark::Bind(args) => binds::measure(args, &sameport, &mut report),
        Benchmark::Soak(args) => soak::measure(args, &sameport, &mut report),
        Benchmark::Restart(args) => restart::measure(args, &sameport, &mut report),
        Benchmark::Guard(args) => guarding::measure(args, &sameport, &mut report),
        Benchmark::Look(args) => look::measure(args, &sameport, &mut report),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => failed(&why),
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::FAILURE
}
