//! `bench sets`: n threads with one listener, with a listener each, and with a listener for each processor:
//! the distribution of connections and the rate.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};
use sameport::{Member, Members, Options, Steering};
use serde::Serialize;

use crate::error::BenchError;
use crate::figures::{Ratio, in_turns, median};
use crate::load::{Use, requests_per_second};
use crate::report::{FigureReport, progress, row};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// How often a thread without connections looks whether the measurement is over.
const LOOK: Duration = Duration::from_millis(20);

/// How long a connection can be silent. The clients send at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests per second and spread of connections over the threads of one server
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds of each pair
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Clients, with one connection per request
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: u16,
    /// Threads of the server; further ones with more of them
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// A way of accepting. The first one is what the others are compared with.
const ARMS: [(&str, Steering); 4] = [
    ("one listener, its clones", Steering::OneQueue),
    ("a listener each, by hash", Steering::Hash),
    ("a listener each, SO_INCOMING_CPU", Steering::IncomingCpu),
    ("a listener each, classic BPF", Steering::Program),
];

#[derive(Serialize)]
struct SetFigures {
    arm: &'static str,
    threads: usize,
    per_second: Vec<f64>,
    /// The rate, divided by that of one listener in the same round.
    ratio: Ratio,
    /// Connections of the thread that got the most, divided by the mean.
    spread: Ratio,
}

pub(crate) fn measure(args: &Args, report: &mut FigureReport) -> Result<(), BenchError> {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = args.threads.map_or(processors, usize::from);
    let mut results = vec![Vec::new(); ARMS.len()];
    for round in 1..=args.rounds {
        let mut of_round = vec![None; ARMS.len()];
        for arm in in_turns(ARMS.len(), round) {
            // A thread without a processor would get nothing.
            if threads <= processors || arm < 2 {
                of_round[arm] = Some(one(args, ARMS[arm].1, threads)?);
            }
        }
        let rates: Vec<_> =
            of_round.iter().flatten().map(|(rate, _)| format!("{rate:.0}")).collect();
        progress(&format!("round {round} of {}: {} per second", args.rounds, rates.join(", ")));
        let reference = of_round[0].map_or(f64::NAN, |(rate, _)| rate);
        for (results, figures) in results.iter_mut().zip(of_round) {
            results.extend(figures.map(|(rate, spread)| (rate, rate / reference, spread)));
        }
    }
    let figures: Vec<SetFigures> = ARMS
        .iter()
        .zip(&results)
        .filter(|(_, results)| !results.is_empty())
        .map(|((arm, _), results)| SetFigures {
            arm,
            threads,
            per_second: results.iter().map(|(rate, ..)| *rate).collect(),
            ratio: ratio(results.iter().map(|(_, ratio, _)| *ratio).collect()),
            spread: ratio(results.iter().map(|(.., spread)| *spread).collect()),
        })
        .collect();
    let mut rows =
        vec![row!["threads with", "threads", "per second", "ratio (rounds)", "max / mean"]];
    rows.extend(figures.iter().map(|it| {
        let rate = format!("{:.0}", median(it.per_second.iter().copied()));
        row![it.arm, it.threads, rate, it.ratio, it.spread]
    }));
    report.table(&rows)?;
    report.end("sets", &figures)
}

fn ratio(of: Vec<f64>) -> Ratio {
    Ratio {
        median: median(of.iter().copied()),
        lowest: of.iter().copied().fold(f64::INFINITY, f64::min),
        highest: of.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    }
}

/// Requests per second, and the connections of the busiest thread divided by the mean.
fn one(args: &Args, steering: Steering, threads: usize) -> Result<(f64, f64), BenchError> {
    let set = Options::shared().steering(steering).listen_n("127.0.0.1:0", threads);
    let set = set.map_err(|error| error.to_string())?;
    let address = set.local_addr();
    let is_over = AtomicBool::new(false);
    let (rate, counts) = thread::scope(|scope| {
        let servers = start(scope, set, &is_over);
        let time = Duration::try_from_secs_f64(args.seconds).unwrap_or(Duration::MAX);
        let rate = requests_per_second(address, Use::Short, args.clients, time);
        is_over.store(true, Ordering::Relaxed);
        let counts: Vec<_> = servers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        (rate, counts)
    });
    let counts: Vec<f64> = counts
        .into_iter()
        .map(|count| count.map_err(|_| "a thread panicked".to_owned())?)
        .collect::<Result<_, BenchError>>()?;
    let most = counts.iter().copied().fold(0.0, f64::max);
    let mean = counts.iter().sum::<f64>() / f64::from(u32::try_from(threads).unwrap_or(u32::MAX));
    Ok((rate?, most / mean))
}

/// Starts a thread for each member, pinned to the member's processor if it has one.
fn start<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    set: Members<TcpListener>,
    is_over: &'scope AtomicBool,
) -> Vec<thread::ScopedJoinHandle<'scope, Result<f64, BenchError>>> {
    set.into_iter().map(|member| scope.spawn(move || serve(&member, is_over))).collect()
}

/// Answers one connection after the other, and returns their number.
fn serve(member: &Member<TcpListener>, is_over: &AtomicBool) -> Result<f64, BenchError> {
    if let Some(cpu) = member.cpu() {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).map_err(|error| format!("sched_setaffinity: {error}"))?;
    }
    // Linux applies the limit to `accept` too.
    let options = socket2::SockRef::from(&**member);
    options.set_read_timeout(Some(LOOK)).map_err(|error| format!("a timeout: {error}"))?;
    let mut count = 0_u32;
    while !is_over.load(Ordering::Relaxed) {
        match member.accept() {
            Ok((client, _)) => {
                count += 1;
                // The client counts a failure.
                let _ = answer(&client);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(format!("accept {}: {error}", address(member))),
        }
    }
    Ok(count.into())
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().map_or_else(|_| "?".into(), |address: SocketAddr| address.to_string())
}

/// Answers one request.
fn answer(mut client: &TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 512];
    let mut length = 0;
    while !buffer[..length].ends_with(b"\r\n\r\n") {
        match client.read(&mut buffer[length..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => length += read,
        }
    }
    client.write_all(ANSWER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_measurement() {
        let args = Args { rounds: 1, seconds: 0.1, clients: 4, threads: None };
        for (arm, steering) in &ARMS[..2] {
            let (rate, spread) = one(&args, *steering, 3).unwrap();
            assert!(rate > 0.0 && (1.0..=3.0).contains(&spread), "{arm}: {rate} {spread}");
        }
    }
}
