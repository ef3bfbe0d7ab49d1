//! `bench balance`: which member gets the next connection, by the kernel's hash, by sameport with and without
//! privilege, by proxies in front, and by one shared queue, side by side.
//!
//! The benchmark runs in its own network, pid and mount namespaces, so that ports and settings of the
//! machine are not used and no process outlives it.

mod bench;
mod callers;
mod canary;
mod chooser;
mod churn;
mod drift;
mod endings;
mod figures;
mod front;
mod group;
mod heavy;
mod measure;
mod measures;
pub(crate) mod member;
mod picture;

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

pub(crate) use bench::Args;
use bench::Bench;
use figures::{BalanceFigure, rows};
use front::FOLDER;
use group::{USER, USER_FOLDER};
use measure::BalanceMeasure;

use crate::error::BenchError;
use crate::harness::set;
use crate::report::{FigureReport, progress};

pub(crate) fn measure(
    args: &Args,
    sameport: &Path,
    report: &mut FigureReport,
) -> Result<(), BenchError> {
    // Proxies connect from one address and need many ports.
    set("net/ipv4/ip_local_port_range", "1024 60999")?;
    // Queues that are full are not what is examined.
    set("net/core/somaxconn", "4096")?;
    fs::create_dir_all(FOLDER).map_err(|error| format!("{FOLDER}: {error}"))?;
    fs::create_dir_all(USER_FOLDER)
        .and_then(|()| chown(USER_FOLDER, Some(USER), Some(USER)))
        .map_err(|error| format!("{USER_FOLDER}: {error}"))?;
    let bench = Bench::new(sameport, &args.by);
    let only = if args.only.is_empty() { &BalanceMeasure::ALL[..] } else { &args.only };
    let mut all = Vec::new();
    for measure in only {
        let figures = run(*measure, &bench, args)?;
        report.table(&rows(&figures.iter().collect::<Vec<_>>()))?;
        all.extend(figures);
    }
    if all.is_empty() {
        return Err("nothing of that can be measured here".to_owned());
    }
    if let Some(file) = &args.picture {
        fs::write(file, picture::of(&all))
            .map_err(|error| format!("--picture: {}: {error}", file.display()))?;
    }
    report.end("balance", &all)?;
    let mut failed = bench.failed();
    failed.extend(all.iter().filter_map(BalanceFigure::failure));
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

fn run(
    measure: BalanceMeasure,
    bench: &Bench,
    args: &Args,
) -> Result<Vec<BalanceFigure>, BenchError> {
    progress(&format!("{}: {}", measure.name(), measure.question()));
    match measure {
        BalanceMeasure::Long => measures::long(bench, args),
        BalanceMeasure::Stopped => measures::stopped(bench, args),
        BalanceMeasure::Weights => measures::weights(bench, args),
        BalanceMeasure::Sticky => measures::sticky(bench, args),
        BalanceMeasure::Canary => canary::canary(bench, args),
        BalanceMeasure::Choice => churn::choice(bench, args),
        BalanceMeasure::Rate => measures::rate(bench, args),
        BalanceMeasure::Heavy => heavy::heavy(bench, args),
        BalanceMeasure::Churn => churn::churn(bench, args),
        BalanceMeasure::Drift => drift::drift(bench, args),
    }
}
