//! `bench metrics`: a scrape of `sameport metrics`, on a busy machine and on a small one.
//!
//! The benchmark runs in new network and process namespaces, so that no other socket is counted and no process
//! outlives it.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Serialize;

use crate::error::BenchError;
use crate::figures::median;
use crate::harness::{PATIENCE, free_address, set, start_as};
use crate::inspect::{BenchUser, SocketLoad, listen, users};
use crate::report::{FigureReport, progress, row};

/// How long a scrape of `sameport metrics --all` takes on many listeners, as root and as another user
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Scrapes
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Listening sockets
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=5000))]
    listeners: u32,
    /// Established connections among them, each with both ends, of a second measurement
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    connections: u32,
    /// Processes that hold them
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=250))]
    processes: u32,
    /// This process is in namespaces of its own already
    #[arg(long, hide = true)]
    pub(crate) alone: bool,
}

#[derive(Serialize)]
struct ScrapeFigures {
    user: &'static str,
    load: SocketLoad,
    /// Of whole scrapes, from the connect to the last byte: the median and the longest.
    milliseconds: f64,
    longest: f64,
    kib: f64,
    /// Of the audit in the background.
    audit_milliseconds: f64,
}

/// A scrape that is younger than this is given again: `operations/metrics/flight.rs`.
const PAUSE: Duration = Duration::from_millis(150);

pub(crate) fn measure(
    args: &Args,
    sameport: &Path,
    report: &mut FigureReport,
) -> Result<(), BenchError> {
    // Connections need ports beside those of listeners.
    set("net/ipv4/ip_local_port_range", "1024 60999")?;
    let mut figures = Vec::new();
    for user in users() {
        for connections in [0, args.connections] {
            let load = SocketLoad { listeners: args.listeners, connections };
            figures.push(measure_load(args, sameport, load, user)?);
        }
    }
    let mut rows =
        vec![row!["as", "listeners", "connections", "scrape ms", "longest", "KiB", "audit ms"]];
    rows.extend(figures.iter().map(|it| {
        row![
            it.user,
            it.load.listeners,
            it.load.connections,
            format!("{:.1}", it.milliseconds),
            format!("{:.1}", it.longest),
            format!("{:.0}", it.kib),
            format!("{:.0}", it.audit_milliseconds),
        ]
    }));
    report.table(&rows)?;
    report.end("metrics", &figures)
}

fn measure_load(
    args: &Args,
    sameport: &Path,
    load: SocketLoad,
    user: BenchUser,
) -> Result<ScrapeFigures, BenchError> {
    let (started, _) = listen(args.processes, load, user)?;
    let address = free_address()?;
    let words: [OsString; 5] = [
        sameport.into(),
        "metrics".into(),
        "--all".into(),
        "--listen".into(),
        address.to_string().into(),
    ];
    let mut exporter = start_as(user.uid, &words)?;
    let measured = scrapes(args, address, load, user);
    exporter.signal(Signal::TERM);
    let ended = exporter.ended(PATIENCE);
    drop(started);
    let figures = measured?;
    ended.map(|_| figures)
}

fn scrapes(
    args: &Args,
    address: SocketAddr,
    load: SocketLoad,
    user: BenchUser,
) -> Result<ScrapeFigures, BenchError> {
    // The first audit is over, so that no scrape is measured beside it.
    let until = Instant::now() + PATIENCE;
    let audit = loop {
        let scraped =
            scrape(address).ok().and_then(|text| value(&text, "sameport_audit_duration_seconds"));
        match scraped {
            Some(seconds) => break seconds * 1000.0,
            None if Instant::now() > until => return Err("the exporter does not audit".to_owned()),
            None => thread::sleep(PAUSE),
        }
    };
    let mut times = Vec::new();
    let mut bytes = 0;
    for round in 1..=args.rounds {
        thread::sleep(PAUSE);
        let since = Instant::now();
        let text = scrape(address).map_err(|error| format!("scrape: {error}"))?;
        let milliseconds = since.elapsed().as_secs_f64() * 1000.0;
        check(&text, load)?;
        progress(&format!(
            "{}, {} listeners, {} connections, scrape {round} of {}: {milliseconds:.1} ms",
            user.name, load.listeners, load.connections, args.rounds
        ));
        times.push(milliseconds);
        bytes = text.len();
    }
    let longest = times.iter().copied().fold(0.0, f64::max);
    let kib = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / 1024.0;
    let milliseconds = median(times.into_iter());
    Ok(ScrapeFigures {
        user: user.name,
        load,
        milliseconds,
        longest,
        kib,
        audit_milliseconds: audit,
    })
}

/// Every listener and every accepted connection is counted.
fn check(text: &str, load: SocketLoad) -> Result<(), BenchError> {
    let sum = |metric: &str| -> (u32, f64) {
        let lines = text.lines().filter_map(|line| line.strip_prefix(metric)?.rsplit_once(' '));
        let values = lines.filter_map(|(_, value)| value.parse::<f64>().ok());
        values.fold((0, 0.0), |(count, sum), value| (count + 1, sum + value))
    };
    let (addresses, _) = sum("sameport_address_members{protocol=\"tcp\"");
    let (_, connections) = sum("sameport_address_connections{");
    // The exporter listens, too, and has the connection of this scrape.
    let missing = addresses != load.listeners + 1;
    if missing || connections < f64::from(load.connections) {
        return Err(format!("{addresses} addresses and {connections} connections in the scrape"));
    }
    Ok(())
}

fn scrape(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}
