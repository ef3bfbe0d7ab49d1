//! `bench guard`: the cost of a guarded port for binds of other ports.
//!
//! The cost is below a microsecond, so the benchmark measures processor time, on which other load has
//! less effect than on elapsed time.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::error::BenchError;
use crate::figures::{in_turns, median};
use crate::harness::{start, subject};
use crate::report::{FigureReport, progress, row};

/// Additional microseconds of a bind to another port while one port is guarded (needs root)
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds of each pair
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Binds per measurement
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,
    /// This process is in namespaces of its own already
    #[arg(long, hide = true)]
    pub(crate) alone: bool,
}

const GUARDED: &str = "40443";
const OTHER: &str = "40444";

const CASES: &[(&str, &[&str])] =
    &[("TCP socket, bind, close", &[]), ("UDP socket, bind, close", &["--udp"])];

#[derive(Serialize)]
struct GuardFigures {
    case: &'static str,
    /// Microseconds of each round: without a guard, with one.
    rounds: Vec<(f64, f64)>,
    /// Additional microseconds: median, minimum and maximum of the rounds' differences.
    more: (f64, f64, f64),
}

pub(crate) fn measure(
    args: &Args,
    sameport: &Path,
    report: &mut FigureReport,
) -> Result<(), BenchError> {
    let mut outcomes = Vec::new();
    for (case, words) in CASES {
        let mut rounds = Vec::new();
        for round in 1..=args.rounds {
            let mut figures = [0.0; 2];
            for arm in in_turns(2, round) {
                set(sameport, arm == 1)?;
                figures[arm] = one(args.count, words)?;
            }
            rounds.push((figures[0], figures[1]));
            progress(&format!(
                "{case}, round {round} of {}: alone {:.3}, guarded {:.3} µs",
                args.rounds, figures[0], figures[1]
            ));
        }
        let more = || rounds.iter().map(|(without, with)| with - without);
        let more = (
            median(more()),
            more().fold(f64::INFINITY, f64::min),
            more().fold(f64::NEG_INFINITY, f64::max),
        );
        outcomes.push(GuardFigures { case, rounds, more });
    }
    let mut rows = vec![row!["one of", "alone µs", "guarded µs", "more µs (rounds)"]];
    rows.extend(outcomes.iter().map(|it| {
        let (middle, lowest, highest) = it.more;
        row![
            it.case,
            format!("{:.2}", median(it.rounds.iter().map(|round| round.0))),
            format!("{:.2}", median(it.rounds.iter().map(|round| round.1))),
            format!("{middle:.2} ({lowest:.2} to {highest:.2})")
        ]
    }));
    report.table(&rows)?;
    report.end("guard", &outcomes)
}

/// Sets or removes a guard on another port than the measured one.
fn set(sameport: &Path, guarded: bool) -> Result<(), BenchError> {
    let words: &[&str] = if guarded {
        &["guard", GUARDED, "--allow", "uid=1", "--allow", "cgroup=/a/b", "--allow", "exe=/bin/sh"]
    } else {
        &["guard", "--off-all"]
    };
    let output = Command::new(sameport).args(words).output();
    let output = output.map_err(|error| format!("{}: {error}", sameport.display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr)))
}

/// Microseconds per bind, as measured by the binding program.
fn one(count: u32, words: &[&str]) -> Result<f64, BenchError> {
    const TRIES: u32 = 5;
    let patience = Duration::from_secs(60) + Duration::from_millis(u64::from(count));
    let count_word = count.to_string();
    let line = ["bind", &count_word, OTHER, "--processor"];
    let words: Vec<_> = line.into_iter().chain(words.iter().copied()).collect();
    let mut last = String::new();
    for _ in 0..TRIES {
        let time = start(&subject(&words)?)?.wait_for("time", patience, |lines| {
            lines.first()?.split_once(' ')?.0.parse::<f64>().ok()
        });
        match time {
            Ok(nanoseconds) => return Ok(nanoseconds / 1000.0 / f64::from(count)),
            // Reading /proc/PID/fd keeps a socket that was just closed open for a moment, and the next bind
            // would find the port in use.
            Err(why) => last = why,
        }
    }
    Err(last)
}

/// Replaces this process by the same program in a new network namespace with its own files, so that no
/// guard of the machine is changed. Returns only on failure, with the reason.
pub(crate) fn reexec_in_namespaces() -> BenchError {
    const SCRIPT: &str = "\
        ip link set lo up && mount -t bpf bpf /sys/fs/bpf && mount -t tmpfs none /mnt && \
        cp -a /etc/passwd /etc/group /etc/ld.so.cache /etc/alternatives /mnt && \
        mount --bind /mnt /etc && exec \"$0\" \"$@\"";
    let this = match std::env::current_exe() {
        Ok(this) => this,
        Err(error) => return format!("/proc/self/exe: {error}"),
    };
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", SCRIPT]).arg(this);
    command.args(std::env::args_os().skip(1)).arg("--alone");
    format!("unshare: {}", command.exec())
}
