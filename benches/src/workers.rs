//! `bench workers`: what a named run with many workers costs: the time until all are ready, of `status`, and
//! of stopping.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::BenchError;
use crate::figures::median;
use crate::harness::{free_address, start, subject, under_run};
use crate::report::{FigureReport, progress, row};

/// The name of the run, which is in namespaces of its own.
const NAME: &str = "bench";

/// Time limit of each step.
const PATIENCE: Duration = Duration::from_secs(300);

/// Seconds until N workers are ready, of `status`, and of stopping
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Numbers of workers
    #[arg(default_values_t = [64, 200, 500], value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Vec<u16>,
    /// Number of `status` calls; the table has their median
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// The namespaces have been entered already
    #[arg(long, hide = true)]
    pub(crate) alone: bool,
}

#[derive(Serialize)]
struct WorkerFigures {
    workers: u16,
    ready_seconds: f64,
    status_seconds: f64,
    /// Processor time of the supervisor while nothing happens, in percent of one processor.
    idle_percent: f64,
    stop_seconds: f64,
}

pub(crate) fn measure(
    args: &Args,
    sameport: &Path,
    report: &mut FigureReport,
) -> Result<(), BenchError> {
    let mut all = Vec::new();
    for workers in &args.workers {
        all.push(one(*workers, args.rounds, sameport)?);
        progress(&format!("{workers} workers: done"));
    }
    let mut rows = vec![row!["workers", "ready, s", "status, s", "idle, %", "stop, s"]];
    for WorkerFigures { workers, ready_seconds, status_seconds, idle_percent, stop_seconds } in &all
    {
        rows.push(row![
            workers,
            format!("{ready_seconds:.2}"),
            format!("{status_seconds:.3}"),
            format!("{idle_percent:.1}"),
            format!("{stop_seconds:.2}")
        ]);
    }
    report.table(&rows)?;
    report.end("workers", &all)
}

fn one(workers: u16, rounds: u32, sameport: &Path) -> Result<WorkerFigures, BenchError> {
    let port = free_address()?.port().to_string();
    let count = workers.to_string();
    let options = ["--name", NAME, "-q", "-n", &count];
    let begun = Instant::now();
    let command = under_run(sameport, &options, &subject(&["greet", &port])?);
    let mut run = start(&command)?;
    let ready = loop {
        let seen = verb(sameport, &["status", NAME, "--json"])?;
        let text = String::from_utf8_lossy(&seen.stdout).into_owned();
        if text.matches("\"ready\"").count() >= workers.into() {
            break begun.elapsed();
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{workers} workers: not ready in {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let mut times = Vec::new();
    for _ in 0..rounds {
        let begun = Instant::now();
        if !verb(sameport, &["status", NAME])?.status.success() {
            return Err("status failed".into());
        }
        times.push(begun.elapsed().as_secs_f64());
    }
    let idle = idle_percent(run.pid())?;
    let begun = Instant::now();
    verb(sameport, &["stop", NAME])?;
    run.ended(PATIENCE)?;
    Ok(WorkerFigures {
        workers,
        ready_seconds: ready.as_secs_f64(),
        status_seconds: median(times.into_iter()),
        idle_percent: idle,
        stop_seconds: begun.elapsed().as_secs_f64(),
    })
}

fn verb(sameport: &Path, words: &[&str]) -> Result<Output, BenchError> {
    Command::new(sameport).args(words).output().map_err(|error| format!("{words:?}: {error}"))
}

fn idle_percent(pid: u32) -> Result<f64, BenchError> {
    const TIME: Duration = Duration::from_secs(5);
    let before = ticks(pid)?;
    std::thread::sleep(TIME);
    let used = ticks(pid)? - before;
    // A tick is 10 ms on every Linux (USER_HZ).
    Ok(used / TIME.as_secs_f64())
}

/// The processor time of a process in ticks: fields 14 and 15 of `/proc/PID/stat`.
fn ticks(pid: u32) -> Result<f64, BenchError> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let stat = stat.map_err(|error| format!("/proc/{pid}/stat: {error}"))?;
    let fields = stat.rsplit_once(')').map_or("", |(_, after)| after).split_ascii_whitespace();
    Ok(fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum())
}
