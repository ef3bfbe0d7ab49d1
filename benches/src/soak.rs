//! `bench soak`: a million connections, a million binds and ten thousand restarts, and the growth
//! of the supervisor.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::BenchError;
use crate::harness::{PATIENCE, free_address, listeners, start, subject, under_run};
use crate::load::{ConnectionOutcomes, ask_for_binds, connect_times};
use crate::report::{FigureReport, progress, row};
use crate::subject::THREADS;

/// Whether the supervisor's memory and descriptors grow: exit code 1 if they do
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Connections through `run -n 2`
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    connections: u64,
    /// Binds through the supervisor, every second one with a listen
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    binds: u32,
    /// Restarts of a worker of a named run, one after the other
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    restarts: u32,
    /// Clients at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=i64::from(THREADS)))]
    clients: u16,
}

const COPIES: u16 = 2;

/// Workers of the named run, and so the restarts of one `sameport restart`.
const NAMED: u32 = 8;

/// Work before the first sample, so that pages that a program touches once do not count as
/// growth.
const WARM_UP: u32 = 2_000;

/// The supervisor follows the result of a bind for two seconds at most.
const SETTLING: Duration = Duration::from_secs(4);

/// Binds per request to a server.
const BATCH: u32 = 1_000;

/// Samples in the table per part.
const SAMPLES: u64 = 5;

/// Allowed growth in KiB: the precision of the kernel's count of resident pages.
const MEMORY_ALLOWED_KIB: u64 = 1024;

/// Descriptors and memory of the supervisor at one moment.
#[derive(Debug, Clone, Serialize)]
struct Sample {
    when: String,
    descriptors: usize,
    memory_kib: u64,
}

#[derive(Serialize)]
struct SoakFigures {
    samples: Vec<Sample>,
    /// The maximum of all samples, including those not in the table.
    most_descriptors: usize,
    most_memory_kib: u64,
    connections: u64,
    connections_per_second: f64,
    refused: u64,
    reset_before_accept: u64,
    reset_in_hand: u64,
    timed_out: u64,
    binds: u32,
    binds_per_second: f64,
    restarts: u32,
    restarts_per_second: f64,
    passed: bool,
}

pub(crate) fn measure(
    args: &Args,
    sameport: &Path,
    report: &mut FigureReport,
) -> Result<(), BenchError> {
    let server = free_address()?;
    let port = free_address()?.port();
    let command = subject(&["greet", &server.port().to_string()])?;
    let options = ["-n", &COPIES.to_string()];
    let mut run = start(&under_run(sameport, &options, &command))?;
    run.wait_for(&format!("{COPIES} listeners on {server}"), PATIENCE, |_| {
        (listeners(server) == usize::from(COPIES)).then_some(())
    })?;

    let mut watch = Watch::new(run.pid());
    watch.show("started")?;
    let warm_up = ConnectionOutcomes::default();
    connect_times(WARM_UP.into(), server, args.clients, &warm_up, || {})?;
    ask_for_binds(server, WARM_UP, port)?;
    thread::sleep(SETTLING);
    let before = watch.show("before")?;

    let outcomes = ConnectionOutcomes::default();
    let since = Instant::now();
    connections(args, server, &outcomes, &mut watch)?;
    let connections_per_second = rate(outcomes.total(), since);

    let since = Instant::now();
    binds(args, server, port, &mut watch)?;
    let binds_per_second = rate(args.binds.into(), since);

    progress("settling");
    thread::sleep(SETTLING);
    let after = watch.show("after")?;
    drop(run);

    let mut named = Watch::new(0);
    let (grown_by_restarts, restarts_per_second) = restarts(args, sameport, &mut named)?;

    let mut grown = growth(&before, &after);
    grown.extend(grown_by_restarts);
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let outcome = SoakFigures {
        most_descriptors: watch.most.0.max(named.most.0),
        most_memory_kib: watch.most.1.max(named.most.1),
        samples: [watch.samples, named.samples].concat(),
        connections: outcomes.total(),
        connections_per_second,
        refused: count(&outcomes.refused),
        reset_before_accept: count(&outcomes.reset_before_accept),
        reset_in_hand: count(&outcomes.reset_in_hand),
        timed_out: count(&outcomes.timed_out),
        binds: args.binds,
        binds_per_second,
        restarts: args.restarts,
        restarts_per_second,
        passed: grown.is_empty() && outcomes.lost() == 0,
    };
    tell(&outcome, report)?;
    if outcomes.lost() > 0 {
        return Err(format!("{} connections were lost", outcomes.lost()));
    }
    if grown.is_empty() { Ok(()) } else { Err(grown.join(", ")) }
}

fn connections(
    args: &Args,
    server: SocketAddr,
    outcomes: &ConnectionOutcomes,
    watch: &mut Watch,
) -> Result<(), BenchError> {
    let mut shown = 0;
    let mut trouble = None;
    connect_times(args.connections, server, args.clients, outcomes, || {
        let done = outcomes.total();
        let due = done * SAMPLES / args.connections;
        let taken = if (shown + 1..SAMPLES).contains(&due) {
            shown = due;
            watch.show(&format!("{done} connections"))
        } else {
            watch.look(String::new())
        };
        trouble = trouble.take().or(taken.err());
    })?;
    trouble.map_or(Ok(()), Err)?;
    watch.show(&format!("{} connections", outcomes.total())).map(drop)
}

fn binds(args: &Args, server: SocketAddr, port: u16, watch: &mut Watch) -> Result<(), BenchError> {
    let mut done = 0;
    while done < args.binds {
        let batch = BATCH.min(args.binds - done);
        ask_for_binds(server, batch, port)?;
        let before = u64::from(done) * SAMPLES / u64::from(args.binds);
        done += batch;
        if u64::from(done) * SAMPLES / u64::from(args.binds) > before {
            watch.show(&format!("{done} binds"))?;
        } else {
            watch.look(String::new())?;
        }
    }
    Ok(())
}

/// Growth of the supervisor of a named run after restarts of its workers.
fn restarts(
    args: &Args,
    sameport: &Path,
    watch: &mut Watch,
) -> Result<(Vec<String>, f64), BenchError> {
    let port = free_address()?.port().to_string();
    let name = format!("soak-{port}");
    let options = ["--name", &name, "-n", &NAMED.to_string()];
    let mut run = start(&under_run(sameport, &options, &subject(&["greet", &port])?))?;
    watch.pid = run.pid();
    let ask = |verb: &str| {
        let mut command = Command::new(sameport);
        command.args([verb, &name]).stdin(Stdio::null());
        command.output().map_err(|error| format!("{}: {error}", sameport.display()))
    };
    let restart = || {
        let output = ask("restart")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let code = output.status;
        if code.success() { Ok(()) } else { Err(format!("sameport restart: {code}\n{said}")) }
    };
    run.wait_for(&format!("answer from {name}"), PATIENCE, |_| {
        ask("status").is_ok_and(|output| output.status.success()).then_some(())
    })?;
    // The first restarts touch the pages that every restart uses.
    for _ in 0..4 {
        restart()?;
    }
    thread::sleep(SETTLING);
    let before = watch.show("before restarts")?;
    let since = Instant::now();
    let mut done = 0;
    while done < args.restarts {
        restart()?;
        let part = |done: u32| u64::from(done) * SAMPLES / u64::from(args.restarts);
        let was = part(done);
        done += NAMED;
        if part(done) > was {
            watch.show(&format!("{done} restarts"))?;
        } else {
            watch.look(String::new())?;
        }
    }
    let a_second = rate(done.into(), since);
    thread::sleep(SETTLING);
    let after = watch.show("after restarts")?;
    Ok((growth(&before, &after), a_second))
}

fn tell(outcome: &SoakFigures, report: &mut FigureReport) -> Result<(), BenchError> {
    let mut rows = vec![row!["supervisor", "descriptors", "memory KiB"]];
    rows.extend(outcome.samples.iter().map(|it| row![it.when, it.descriptors, it.memory_kib]));
    rows.push(row!["most seen", outcome.most_descriptors, outcome.most_memory_kib]);
    report.table(&rows)?;
    report.table(&[
        row!["clients", "count"],
        row!["connections", outcome.connections],
        row!["  refused", outcome.refused],
        row!["  reset before accept", outcome.reset_before_accept],
        row!["  reset in hand", outcome.reset_in_hand],
        row!["  timed out", outcome.timed_out],
        row!["  a second", format!("{:.0}", outcome.connections_per_second)],
        row!["binds", outcome.binds],
        row!["  a second", format!("{:.0}", outcome.binds_per_second)],
        row!["restarts", outcome.restarts],
        row!["  a second", format!("{:.0}", outcome.restarts_per_second)],
    ])?;
    report.end("soak", outcome)
}

/// Growth beyond the limits.
fn growth(before: &Sample, after: &Sample) -> Vec<String> {
    let mut grown = Vec::new();
    if after.descriptors > before.descriptors {
        grown.push(format!(
            "the supervisor's descriptors grew from {} to {}",
            before.descriptors, after.descriptors
        ));
    }
    if after.memory_kib > before.memory_kib + MEMORY_ALLOWED_KIB {
        grown.push(format!(
            "the supervisor's memory grew from {} to {} KiB",
            before.memory_kib, after.memory_kib
        ));
    }
    grown
}

fn rate(count: u64, since: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    let count = count as f64;
    count / since.elapsed().as_secs_f64()
}

struct Watch {
    pid: u32,
    samples: Vec<Sample>,
    most: (usize, u64),
}

impl Watch {
    fn new(pid: u32) -> Self {
        Self { pid, samples: Vec::new(), most: (0, 0) }
    }

    /// Takes a sample for the table, and prints it as progress.
    fn show(&mut self, when: &str) -> Result<Sample, BenchError> {
        let sample = self.look(when.to_owned())?;
        progress(&format!("{when}: {} descriptors, {} KiB", sample.descriptors, sample.memory_kib));
        self.samples.push(sample.clone());
        Ok(sample)
    }

    fn look(&mut self, when: String) -> Result<Sample, BenchError> {
        let folder = format!("/proc/{}", self.pid);
        let trouble = |error: std::io::Error| format!("the supervisor, {folder}: {error}");
        let descriptors = std::fs::read_dir(format!("{folder}/fd")).map_err(trouble)?.count();
        let status = std::fs::read_to_string(format!("{folder}/status")).map_err(trouble)?;
        let memory_kib = resident(&status).ok_or_else(|| format!("no VmRSS in {folder}/status"))?;
        self.most = (self.most.0.max(descriptors), self.most.1.max(memory_kib));
        Ok(Sample { when, descriptors, memory_kib })
    }
}

/// VmRSS in KiB (`proc_pid_status(5)`).
fn resident(status: &str) -> Option<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB"))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told() {
        let sample =
            |descriptors, memory_kib| Sample { when: String::new(), descriptors, memory_kib };
        let cases = [
            ((9, 4000), (9, 4000), 0),
            ((9, 4000), (8, 5024), 0),
            ((9, 4000), (10, 4000), 1),
            ((9, 4000), (9, 5025), 1),
            ((9, 4000), (10, 9000), 2),
        ];
        for (before, after, expected) in cases {
            let grown = growth(&sample(before.0, before.1), &sample(after.0, after.1));
            assert_eq!(grown.len(), expected, "{before:?} {after:?}: {grown:?}");
        }
    }

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    4321 kB\nThreads: 1\n"), Some(4321));
        assert_eq!(resident("Name:\tx\n"), None);
    }
}
