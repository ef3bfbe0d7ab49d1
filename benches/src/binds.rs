//! `bench bind`: the cost of one bind, alone and under `run` with each interposer.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::error::BenchError;
use crate::figures::{Pairs, Ratio, in_turns};
use crate::harness::{free_address, interposers, start, subject, under_run};
use crate::report::{FigureReport, progress, row};

/// Microseconds of one socket + bind + close, alone and under `run` with each interposer
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds of each pair
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Binds per measurement
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,
}

struct Case {
    name: &'static str,
    subject: &'static [&'static str],
    /// `run` shares another port than the one that the program binds.
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
struct BindFigures {
    case: &'static str,
    via: &'static str,
    microseconds: Pairs,
    ratio: Ratio,
}

pub(crate) fn measure(
    args: &Args,
    sameport: &Path,
    report: &mut FigureReport,
) -> Result<(), BenchError> {
    let vias = interposers(sameport)?;
    let mut outcomes = Vec::new();
    for case in CASES {
        let mut pairs = vec![Pairs::default(); vias.len()];
        for round in 1..=args.rounds {
            let mut figures = vec![0.0; 1 + vias.len()];
            for arm in in_turns(figures.len(), round) {
                let via = arm.checked_sub(1).map(|via| vias[via]);
                figures[arm] = one(args.count, case, via.map(|via| (sameport, via)))?;
            }
            for (pairs, figure) in pairs.iter_mut().zip(&figures[1..]) {
                pairs.push(figures[0], *figure);
            }
            let figures: Vec<_> = figures.iter().map(|figure| format!("{figure:.2}")).collect();
            progress(&format!(
                "{}, round {round} of {}: alone, {}: {} µs",
                case.name,
                args.rounds,
                vias.join(", "),
                figures.join(", ")
            ));
        }
        outcomes.extend(vias.iter().zip(pairs).map(|(via, pairs)| {
            let ratio = pairs.ratio();
            BindFigures { case: case.name, via, microseconds: pairs, ratio }
        }));
    }
    let mut rows = vec![row!["one of", "via", "alone µs", "run µs", "more µs", "ratio (rounds)"]];
    rows.extend(outcomes.iter().map(|it| {
        let (alone, run) = (it.microseconds.without(), it.microseconds.with());
        let micro = |figure: f64| format!("{figure:.1}");
        row![it.case, it.via, micro(alone), micro(run), micro(run - alone), it.ratio]
    }));
    report.table(&rows)?;
    report.end("bind", &outcomes)
}

/// Microseconds per bind, as measured by the binding program; under `sameport run --via VIA` if
/// `via` is given.
fn one(count: u32, case: &Case, run: Option<(&Path, &str)>) -> Result<f64, BenchError> {
    // Long enough for a slow machine; bounds a hang.
    let patience = Duration::from_secs(20) + Duration::from_millis(u64::from(count));
    let port = free_address()?.port();
    let (count_word, port_word) = (count.to_string(), port.to_string());
    let arguments: Vec<&str> =
        ["bind", &count_word, &port_word].into_iter().chain(case.subject.iter().copied()).collect();
    let bare = subject(&arguments)?;
    let other = if port == u16::MAX { port - 1 } else { port + 1 }.to_string();
    let command = match run {
        None => bare,
        Some((sameport, via)) => {
            let left_alone = case.left_alone.then_some(["--port", &other]);
            let options: Vec<&str> =
                ["--via", via].into_iter().chain(left_alone.into_iter().flatten()).collect();
            under_run(sameport, &options, &bare)
        }
    };
    let (nanoseconds, shared) =
        start(&command)?.wait_for("time", patience, |lines| read(lines.first()?))?;
    // A skipped case has no cost.
    let expected = run.is_some() && !case.left_alone;
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
