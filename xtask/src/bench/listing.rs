//! `bench ls`: `sameport ls` beside the programs that people use today.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Serialize;

use super::Failure;
use super::figures::{Pairs, Ratio};
use super::report::{Report, progress, row};
use super::stage::{PATIENCE, Started, find_program, start, subject};

/// How long `sameport ls`, `ss -ltnp` and `lsof` take, each a whole process, on many listeners
#[derive(clap::Args)]
pub(super) struct Args {
    /// How often each is run
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Listening sockets
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    listeners: u32,
    /// Established connections among them, each with both ends
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    connections: u32,
    /// Processes that have them
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    processes: u32,
}

#[derive(Serialize)]
struct Outcome {
    program: &'static str,
    /// Of `sameport ls` (second) and this one (first).
    milliseconds: Pairs,
    /// `sameport ls` to this one.
    ratio: Ratio,
}

/// Programs that show listeners with their processes, numbers unresolved.
const OTHERS: [(&str, &[&str]); 2] =
    [("ss", &["-ltnp"]), ("lsof", &["-nP", "-iTCP", "-sTCP:LISTEN"])];

pub(super) fn measure(args: &Args, sameport: &Path, report: &mut Report) -> Result<(), Failure> {
    let _listeners = listen(args)?;
    let ours = [sameport.as_os_str().to_owned(), "ls".into(), "--tcp".into()];
    let mut outcomes = Vec::new();
    for (name, arguments) in OTHERS {
        let Some(program) = find_program(name) else {
            progress(&format!("{name} is not here: measured without it"));
            continue;
        };
        let words = arguments.iter().map(OsString::from);
        let other: Vec<OsString> = [program.into_os_string()].into_iter().chain(words).collect();
        let mut pairs = Pairs::default();
        for round in 1..=args.rounds {
            let (theirs, us) = if round % 2 == 1 {
                let theirs = one(&other, args.listeners)?;
                (theirs, one(&ours, args.listeners)?)
            } else {
                let us = one(&ours, args.listeners)?;
                (one(&other, args.listeners)?, us)
            };
            pairs.push(theirs, us);
            progress(&format!(
                "round {round} of {}: {name} {theirs:.1} ms, sameport ls {us:.1} ms",
                args.rounds
            ));
        }
        let ratio = pairs.ratio();
        outcomes.push(Outcome { program: name, milliseconds: pairs, ratio });
    }
    if outcomes.is_empty() {
        return Err("neither ss nor lsof is here to compare with".to_owned());
    }
    let mut rows = vec![row!["beside", "its ms", "sameport ls ms", "ratio (rounds)"]];
    rows.extend(outcomes.iter().map(|it| {
        let milli = |figure: f64| format!("{figure:.1}");
        row![it.program, milli(it.milliseconds.without()), milli(it.milliseconds.with()), it.ratio]
    }));
    report.table(&rows)?;
    report.end("ls", &outcomes)
}

/// The listeners and connections, spread over the processes as evenly as it goes.
fn listen(args: &Args) -> Result<Vec<Started>, Failure> {
    let processes = args.processes.min(args.listeners);
    let share =
        |of: u32, number: u32| (of / processes + u32::from(number < of % processes)).to_string();
    let mut started = (0..processes)
        .map(|number| {
            let (listeners, connections) =
                (share(args.listeners, number), share(args.connections, number));
            start(&subject(&["listen", &listeners, &connections])?)
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    for one in &mut started {
        one.wait_for("listeners", PATIENCE, |lines| {
            lines.iter().any(|line| line.ends_with(" connections")).then_some(())
        })?;
    }
    Ok(started)
}

/// Milliseconds of one run, from start to end. A program that does not show all of them has not
/// done the work.
fn one(command: &[OsString], listeners: u32) -> Result<f64, Failure> {
    let name = command[0].display();
    let since = Instant::now();
    let output = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    let milliseconds = since.elapsed().as_secs_f64() * 1000.0;
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    if !output.status.success() || lines < usize::try_from(listeners).unwrap_or(usize::MAX) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name}: {}, {lines} lines\n{stderr}", output.status));
    }
    Ok(milliseconds)
}
