//! `bench fleet`: requests that clients of HAProxy lose while a fleet is deployed, upgraded, and loses a machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use crate::error::BenchError;
use crate::harness::{find_program, folder};
use crate::lab::story::{self, Day};
use crate::lab::{Counts, Parts, Variant};
use crate::report::{FigureReport, progress, row};

/// Requests that clients of HAProxy lose while three machines are deployed, upgraded, and one dies (needs root)
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Requests in all, at least
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    requests: u64,
    /// Days of the fleet; each has every change once, and HAProxy in another set-up
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=100))]
    days: u64,
    /// The pause of each of 8 clients after a request, in microseconds
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pause: u32,
    /// Upgrade sameport to this executable
    #[arg(long, value_name = "FILE")]
    newer: Option<PathBuf>,
}

/// The set-ups of HAProxy, in turns.
const VARIANTS: [Variant; 4] = [
    Variant { http_check: false, keeps_alive: true },
    Variant { http_check: true, keeps_alive: false },
    Variant { http_check: true, keeps_alive: true },
    Variant { http_check: false, keeps_alive: false },
];

#[derive(Serialize)]
struct DayFigures {
    http_check: bool,
    keeps_alive: bool,
    /// Requests by what became of them.
    requests: Counts,
}

pub(crate) fn measure(
    args: &Args,
    sameport: &Path,
    report: &mut FigureReport,
) -> Result<(), BenchError> {
    let home = folder()?.join(format!("fleet-{}", std::process::id()));
    std::fs::create_dir(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    let days = live(args, sameport, &home);
    let _ = std::fs::remove_dir_all(&home);
    let days = days?;
    let mut rows = vec![row!["day", "check", "to servers", "answered", "lost"]];
    for (number, day) in days.iter().enumerate() {
        let lost = day.requests.iter().filter(|(kind, count)| *kind != "answered" && **count > 0);
        let lost: Vec<String> = lost.map(|(kind, count)| format!("{kind} {count}")).collect();
        rows.push(row![
            (number + 1).to_string(),
            if day.http_check { "http" } else { "connect" },
            if day.keeps_alive { "keep-alive" } else { "close" },
            day.requests.get("answered").copied().unwrap_or(0).to_string(),
            if lost.is_empty() { "0".to_owned() } else { lost.join(", ") },
        ]);
    }
    report.table(&rows)?;
    report.end("fleet", &days)
}

fn live(args: &Args, sameport: &Path, home: &Path) -> Result<Vec<DayFigures>, BenchError> {
    let find = |name| find_program(name).ok_or_else(|| format!("it takes {name}"));
    let haproxy = find("haproxy")?;
    for program in ["ip", "unshare", "nsenter"] {
        find(program)?;
    }
    let fleet = home.join("fleet");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/cli/tests/programs/fleet.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-O2", "-pthread", "-o"]).arg(&fleet).arg(source);
    let compiled = compiler.status().map_err(|error| format!("cc: {error}"))?;
    if !compiled.success() {
        return Err(format!("cc: {compiled}"));
    }
    let newer = home.join("sameport-newer");
    let from = args.newer.as_deref().unwrap_or(sameport);
    std::fs::copy(from, &newer).map_err(|error| format!("{}: {error}", from.display()))?;
    let mut days = Vec::new();
    for (number, variant) in (1..=args.days).zip(VARIANTS.into_iter().cycle()) {
        let directory = home.join(number.to_string());
        std::fs::create_dir(&directory).map_err(|error| error.to_string())?;
        let parts = Parts {
            sameport: sameport.to_path_buf(),
            newer: newer.clone(),
            fleet: fleet.clone(),
            haproxy: haproxy.clone(),
            directory,
            environment: Vec::new(),
        };
        let requests = args.requests.div_ceil(args.days);
        let day = Day { variant, changed: 3, requests, pause: args.pause };
        let counts = story::run_day(&parts, day, &mut |step, counts| {
            progress(&format!("day {number}: {step}: {counts:?}"));
        })?;
        let Variant { http_check, keeps_alive } = variant;
        days.push(DayFigures { http_check, keeps_alive, requests: counts });
    }
    Ok(days)
}
