//! The command line of the benchmarks.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;

use crate::error::BenchError;
use crate::report::FigureReport;
use crate::{
    balance, binds, fleet, guard, harness, inspect, metrics, rates, restart, sets, soak, subject,
    workers,
};

/// Measure what sameport costs, in release builds, side by side with doing without it
#[derive(clap::Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct CommandLine {
    #[command(subcommand)]
    benchmark: Benchmark,
    /// Also write the figures as JSON to this file (`-`: to stdout, without a table)
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure this executable instead of a release build of this tree
    #[arg(long, global = true, value_name = "FILE")]
    sameport: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Benchmark {
    Run(rates::Args),
    Bind(binds::Args),
    Soak(soak::Args),
    Restart(restart::Args),
    Guard(guard::Args),
    Fleet(fleet::Args),
    Look(inspect::Args),
    Metrics(metrics::Args),
    Workers(workers::Args),
    Sets(sets::Args),
    Balance(balance::Args),
    #[command(hide = true)]
    Subject(subject::Args),
}

impl Benchmark {
    /// Starts this program again in the namespaces that the benchmark needs, unless it is in them.
    /// Returns the reason if that failed; `None` if nothing was needed.
    fn enter_namespaces(&self) -> Option<BenchError> {
        match self {
            Self::Restart(args) if !args.alone => Some(harness::reexec_in_namespaces()),
            Self::Look(args) if !args.alone => Some(harness::reexec_in_namespaces()),
            Self::Metrics(args) if !args.alone => Some(harness::reexec_in_namespaces()),
            Self::Workers(args) if !args.alone => Some(harness::reexec_in_namespaces()),
            Self::Balance(args) if !args.alone => Some(harness::reexec_in_namespaces()),
            Self::Guard(args) if !args.alone => Some(guard::reexec_in_namespaces()),
            _ => None,
        }
    }
}

/// Parses the arguments of this process and runs the benchmark. Exit codes: 0 measured, 1 not
/// measured, 2 wrong command line.
pub(crate) fn run() -> ExitCode {
    let CommandLine { benchmark, json, sameport } = CommandLine::parse();
    if let Benchmark::Subject(args) = &benchmark {
        return subject::run(args);
    }
    let mut report = match FigureReport::open(json.as_deref()) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: --json: {error}");
            return ExitCode::from(2);
        }
    };
    if let Benchmark::Sets(args) = &benchmark {
        // The library alone.
        return exit_code(sets::measure(args, &mut report));
    }
    // A namespace has no network, so the build happens before.
    let built = match sameport {
        Some(file) => std::path::absolute(&file).map_err(|e| format!("{}: {e}", file.display())),
        None => harness::build_sameport(),
    };
    let result = built.and_then(|sameport| match benchmark.enter_namespaces() {
        Some(why) => Err(why),
        None => match &benchmark {
            Benchmark::Run(args) => rates::measure(args, &sameport, &mut report),
            Benchmark::Bind(args) => binds::measure(args, &sameport, &mut report),
            Benchmark::Soak(args) => soak::measure(args, &sameport, &mut report),
            Benchmark::Restart(args) => restart::measure(args, &sameport, &mut report),
            Benchmark::Guard(args) => guard::measure(args, &sameport, &mut report),
            Benchmark::Fleet(args) => fleet::measure(args, &sameport, &mut report),
            Benchmark::Look(args) => inspect::measure(args, &sameport, &mut report),
            Benchmark::Metrics(args) => metrics::measure(args, &sameport, &mut report),
            Benchmark::Workers(args) => workers::measure(args, &sameport, &mut report),
            Benchmark::Balance(args) => balance::measure(args, &sameport, &mut report),
            Benchmark::Sets(_) | Benchmark::Subject(_) => Ok(()),
        },
    });
    exit_code(result)
}

fn exit_code(result: Result<(), BenchError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of the README have commands with options that exist.
    #[test]
    fn commands_of_the_readme_are_accepted() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let commands: Vec<&str> = readme
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|code| code.starts_with("cargo xtask bench "))
            .collect();
        assert!(commands.len() >= 4, "{commands:?}");
        for command in commands {
            let words = command.split_whitespace().skip(2);
            let parsed = CommandLine::try_parse_from(words);
            assert!(parsed.is_ok(), "{command}: {:?}", parsed.err().map(|why| why.to_string()));
        }
    }
}
