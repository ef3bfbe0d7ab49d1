//! `bench bind`: what one bind costs, by itself and under `run`.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::Failure;
use super::figures::{Pairs, Ratio};
use super::report::{Report, progress, row};
use super::stage::{free_address, start, subject, under_run};

/// Microseconds of one socket + bind + close, by itself and under `run`
#[derive(clap::Args)]
pub(super) struct Args {
    /// How often each pair is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Binds of each single measurement
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,
}

struct Case {
    name: &'static str,
    subject: &'static [&'static str],
    /// Whether `run` is told to share another port than the one that is bound.
    left_alone: bool,
}

const CASES: &[Case] = &[
    Case { name: "TCP socket, bind, close", subject: &[], left_alone: false },
    Case { name: "TCP socket, bind, listen, close", subject: &["--listen"], left_alone: false },
    Case { name: "UDP socket, bind, close", subject: &["--udp"], left_alone: false },
    Case { name: "TCP, port not among --port", subject: &[], left_alone: true },
    Case { name: "TCP, listening, not among --port", subject: &["--listen"], left_alone: true },
];

#[derive(Serialize)]
struct Outcome {
    case: &'static str,
    microseconds: Pairs,
    ratio: Ratio,
}

pub(super) fn measure(args: &Args, sameport: &Path, report: &mut Report) -> Result<(), Failure> {
    let mut outcomes = Vec::new();
    for case in CASES {
        let mut pairs = Pairs::default();
        for round in 1..=args.rounds {
            // Whoever goes first, goes second in the next round.
            let (bare, run) = if round % 2 == 1 {
                let bare = one(args.count, case, None)?;
                (bare, one(args.count, case, Some(sameport))?)
            } else {
                let run = one(args.count, case, Some(sameport))?;
                (one(args.count, case, None)?, run)
            };
            pairs.push(bare, run);
            progress(&format!(
                "{}, round {round} of {}: {bare:.2} and {run:.2} µs",
                case.name, args.rounds
            ));
        }
        let ratio = pairs.ratio();
        outcomes.push(Outcome { case: case.name, microseconds: pairs, ratio });
    }
    let mut rows = vec![row!["one of", "alone µs", "run µs", "more µs", "ratio (rounds)"]];
    rows.extend(outcomes.iter().map(|it| {
        let (alone, run) = (it.microseconds.without(), it.microseconds.with());
        let micro = |figure: f64| format!("{figure:.1}");
        row![it.case, micro(alone), micro(run), micro(run - alone), it.ratio]
    }));
    report.table(&rows)?;
    report.end("bind", &outcomes)
}

/// Microseconds a bind, as the program that binds measures it.
fn one(count: u32, case: &Case, sameport: Option<&Path>) -> Result<f64, Failure> {
    // A slow machine, not one that hangs.
    let patience = Duration::from_secs(20) + Duration::from_millis(u64::from(count));
    let port = free_address()?.port();
    let (count_word, port_word) = (count.to_string(), port.to_string());
    let arguments: Vec<&str> =
        ["bind", &count_word, &port_word].into_iter().chain(case.subject.iter().copied()).collect();
    let bare = subject(&arguments)?;
    let other = if port == u16::MAX { port - 1 } else { port + 1 }.to_string();
    let command = match sameport {
        None => bare,
        Some(sameport) if case.left_alone => under_run(sameport, &["--port", &other], &bare),
        Some(sameport) => under_run(sameport, &[], &bare),
    };
    let (nanoseconds, shared) =
        start(&command)?.wait_for("time", patience, |lines| read(lines.first()?))?;
    // What was not done costs nothing.
    let expected = sameport.is_some() && !case.left_alone;
    if shared != expected {
        return Err(format!("{}: shared {shared}, expected {expected}", case.name));
    }
    Ok(nanoseconds / 1000.0 / f64::from(count))
}

/// Nanoseconds, and whether a socket was shared.
fn read(line: &str) -> Option<(f64, bool)> {
    let (nanoseconds, shared) = line.split_once(' ')?;
    let shared = match shared {
        "shared" => true,
        "unshared" => false,
        _ => return None,
    };
    Some((nanoseconds.parse().ok()?, shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_subject_prints_is_read() {
        assert_eq!(read("1500 shared"), Some((1500.0, true)));
        assert_eq!(read("7 unshared"), Some((7.0, false)));
        for wrong in ["", "7", "x shared", "7 maybe"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
