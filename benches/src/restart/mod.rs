//! `bench restart`: workers are restarted, killed and replaced under load by a script, by proxies and by
//! sameport, in turns. Every client reports the result of its connections.
//!
//! The benchmark runs in its own network, pid and mount namespaces, so that ports and settings of the
//! machine are not used and no process outlives it.

mod fleet;
mod held;
mod in_hand;
mod measured;
pub(crate) mod picture;
mod proxies;
pub(crate) mod servers;
mod stress;
mod variants;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet::Fleet;
use in_hand::{DrainMode, InHandFigures, Work};
use measured::{RestartFigures, rows};
use servers::{BenchServer, Program};
use stress::{Load, Scenario};
use variants::{Means, Variant};

use crate::clients::Clients;
use crate::error::BenchError;
use crate::figures::in_turns;
use crate::harness::set;
use crate::report::{FigureReport, progress};

/// Connections that clients lose while workers are restarted, killed and replaced by a script, by proxies
/// and by sameport
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Events [default: rolling, kill]
    #[arg(long, value_enum, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Ways to restart [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    variant: Vec<Variant>,
    /// Servers [default: threads]
    #[arg(long, value_enum, value_delimiter = ',')]
    server: Vec<BenchServer>,
    /// Workers of one address
    #[arg(long, value_delimiter = ',', default_values_t = [4, 1], value_parser = clap::value_parser!(u16).range(1..=64))]
    copies: Vec<u16>,
    /// Minimum number of connections per variant
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    connections: u64,
    /// Events per variant, spread over the connections
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    restarts: u32,
    /// Turns of each variant
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Clients at once
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: u16,
    /// Connections per second, independent of answers; without it each client connects when its last
    /// request is answered
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Additional milliseconds between the start of a worker and its listening
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    start_up: u32,
    /// Work in hand while workers are restarted, instead of scenarios: each kind with each `--drain`
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0..)]
    work: Option<Vec<Work>>,
    /// Drain modes of `--work` [default: all]
    #[arg(long, value_enum, value_delimiter = ',', requires = "work")]
    drain: Vec<DrainMode>,
    /// Draw the losses into this file, as SVG
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// This process is in namespaces of its own already
    #[arg(long, hide = true)]
    pub(crate) alone: bool,
}

/// Folder for files of servers and records of accepted connections, in memory: a write to a mapped file
/// on a disk needs a page fault, which a killed process does not handle.
const FOLDER: &str = "/run/sameport-bench";

pub(crate) fn measure(
    args: &Args,
    sameport: &Path,
    report: &mut FigureReport,
) -> Result<(), BenchError> {
    // Proxies connect from one address and need many ports; the ports of workers are above.
    set("net/ipv4/ip_local_port_range", "1024 60999")?;
    let means = Means::of(sameport)?;
    let folder = Path::new(FOLDER);
    fs::create_dir_all(folder.join("accepted")).map_err(|error| format!("{FOLDER}: {error}"))?;
    if let Some(works) = &args.work {
        return measure_work_in_hand(args, works, &means, report);
    }
    let or_all = |scenarios: &[Scenario]| match scenarios {
        [] => vec![Scenario::Rolling, Scenario::Kill],
        some => some.to_vec(),
    };
    let servers = if args.server.is_empty() { &[BenchServer::Threads][..] } else { &args.server };
    let variants = if args.variant.is_empty() { &Variant::ALL[..] } else { &args.variant };
    let mut measured = Vec::new();
    for server in servers {
        let program = match Program::find(*server, folder) {
            Ok(program) => program,
            Err(why) => {
                progress(&format!("measured without {}: {why}", server.name()));
                continue;
            }
        };
        for scenario in or_all(&args.scenario) {
            for copies in &args.copies {
                measured.extend(compare(args, &means, &program, scenario, *copies, variants)?);
            }
        }
    }
    if measured.is_empty() {
        return Err("nothing of that can be measured here".to_owned());
    }
    if let Some(file) = &args.picture {
        fs::write(file, picture::of(&measured))
            .map_err(|error| format!("--picture: {}: {error}", file.display()))?;
    }
    report.table(&rows(&measured))?;
    report.end("restart", &measured)?;
    let failed: Vec<String> = measured.iter().filter_map(RestartFigures::failure).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

fn measure_work_in_hand(
    args: &Args,
    works: &[Work],
    means: &Means,
    report: &mut FigureReport,
) -> Result<(), BenchError> {
    let works = if works.is_empty() { &Work::ALL[..] } else { works };
    let modes = if args.drain.is_empty() { &DrainMode::ALL[..] } else { &args.drain };
    let measured = in_hand::measure(works, modes, args.restarts, means, Path::new(FOLDER))?;
    report.table(&in_hand::rows(&measured))?;
    report.end("restart-in-hand", &measured)?;
    let failed: Vec<String> = measured.iter().filter_map(InHandFigures::failure).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

/// One scenario with each variant, in turns.
fn compare(
    args: &Args,
    means: &Means,
    program: &Program,
    scenario: Scenario,
    copies: u16,
    variants: &[Variant],
) -> Result<Vec<RestartFigures>, BenchError> {
    let start_up = Duration::from_millis(args.start_up.into());
    let load = Load {
        copies,
        clients: args.clients,
        rate: args.rate,
        connections: args.connections / u64::from(args.rounds),
        times: args.restarts.div_ceil(args.rounds),
        start_up: scenario.start_up(start_up),
    };
    load.prepare(program)?;
    let mut arms = Vec::new();
    for variant in variants {
        if let Some(why) = variant.lacks(means, program, scenario) {
            progress(&format!("{}: measured without {}: {why}", scenario.name(), variant.name()));
            continue;
        }
        let measured = RestartFigures::new(program.server, scenario, copies, *variant);
        let fleet = variant.start(means, program, copies)?;
        answers(fleet.as_ref()).map_err(|why| format!("{}: {why}", variant.name()))?;
        arms.push((*variant, fleet, measured));
    }
    for round in 1..=args.rounds {
        for arm in in_turns(arms.len(), round) {
            let (variant, fleet, measured) = &mut arms[arm];
            if measured.failed.is_some() {
                continue;
            }
            variant.prepare()?;
            let what = format!("{}, {copies} workers, {}", scenario.name(), variant.name());
            let seen = load.put_on(fleet.as_mut(), program, scenario);
            let sentence = match seen {
                Ok(seen) => measured.add(seen, load.times),
                // The other variants continue.
                Err(why) => measured.failed.insert(why).clone(),
            };
            progress(&format!("{what}, round {round} of {}: {sentence}", args.rounds));
        }
    }
    Ok(arms.into_iter().map(|(_, _, measured)| measured.finished()).collect())
}

/// Checks that the server answers before the first event.
fn answers(fleet: &dyn Fleet) -> Result<(), BenchError> {
    let server = fleet.address();
    let seen = Clients::of(server, 4).drive(|begun| begun >= 100);
    let seen = seen.map_err(|error| format!("connecting to {server}: {error}"))?;
    match seen.lost.first() {
        None => Ok(()),
        Some((how, from)) => Err(format!("{server}, asked from {from}: {how:?}, all being well")),
    }
}
