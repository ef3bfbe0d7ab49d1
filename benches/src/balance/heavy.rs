//! Heavy-tailed requests to serial members at half of their capacity: the time until the answer.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::bench::{Args, Bench};
use super::callers::CallCounts;
use super::figures::{BalanceFigure, Bound};
use super::group::{BalancedGroup, GroupPlan};
use super::measure::BalanceMeasure;
use super::measures::SPREADING;
use crate::error::BenchError;
use crate::harness::PATIENCE;

const MEMBERS: u16 = 4;
/// Service time of a light request.
const LIGHT: Duration = Duration::from_millis(1);
/// One request in this many is heavy …
const ONE_IN: u64 = 50;
/// … and takes this many times as long.
const TIMES: u32 = 100;
/// Requests at once. More wait: their time begins when they are due.
const CLIENTS: u16 = 256;

/// The due times and weights of requests: the same for every arm.
fn schedule(seconds: f64) -> Vec<(Duration, bool)> {
    let mean = LIGHT.as_secs_f64() * (f64::from(TIMES) / ONE_IN as f64 + 1.0 - 1.0 / ONE_IN as f64);
    let rate = 0.5 * f64::from(MEMBERS) / mean;
    let (mut at, mut state, mut all) = (0.0, 0x5eed_u64, Vec::new());
    while at < seconds {
        // Poisson arrivals: intervals with an exponential distribution.
        at -= (1.0 - uniform(&mut state)).ln() / rate;
        let heavy = uniform(&mut state) < 1.0 / ONE_IN as f64;
        all.push((Duration::from_secs_f64(at), heavy));
    }
    all
}

/// splitmix64, as a number from 0 to below 1.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let high = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(0);
    f64::from(high) / (f64::from(u32::MAX) + 1.0)
}

pub(crate) fn heavy(bench: &Bench, args: &Args) -> Result<Vec<BalanceFigure>, BenchError> {
    let requests = schedule(args.seconds * 1.5);
    let plan = GroupPlan::of(MEMBERS).with(&["--serial"]);
    let mut figures = bench.each(BalanceMeasure::Heavy, &SPREADING, plan, |arm, group| {
        group.wait_until_ready(MEMBERS)?;
        wait_for_an_answer(group)?;
        let (times, counts) = ask_all(group, &requests)?;
        let p99 = percentile(times.iter().map(|(time, _)| *time), 990);
        let light = || times.iter().filter(|(_, heavy)| !heavy).map(|(time, _)| *time);
        let mut figure =
            BalanceFigure::new(BalanceMeasure::Heavy, arm, MEMBERS, "p99, ms", p99).counts(counts);
        figure.details = vec![
            ("p50", percentile(times.iter().map(|(time, _)| *time), 500)),
            ("p99 of light ones", percentile(light(), 990)),
        ];
        figure.is_count = false;
        Ok(figure)
    });
    // Below the hash and below round-robin.
    let of = |policy: &str| figures.iter().find(|it| it.arm.policy == policy).map(|it| it.value);
    let bound = [of("hash"), of("round-robin")].into_iter().flatten().fold(f64::INFINITY, f64::min);
    for figure in &mut figures {
        if matches!(figure.arm.policy, "least-connections" | "two-choices") && bound.is_finite() {
            figure.bound = Bound::AtMost(bound);
        }
    }
    Ok(figures)
}

fn wait_for_an_answer(group: &BalancedGroup) -> Result<(), BenchError> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if ask(group, Duration::ZERO).is_ok() {
            // The other members start at the same time.
            thread::sleep(Duration::from_millis(500));
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(format!("{}: no member answered", group.address))
}

/// One request of this service time; returns the pid of the member.
fn ask(group: &BalancedGroup, service: Duration) -> io::Result<u32> {
    let mut client = TcpStream::connect_timeout(&group.address, PATIENCE)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.write_all(format!("{}\n", service.as_micros()).as_bytes())?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    answer.trim().parse().map_err(|_| io::ErrorKind::UnexpectedEof.into())
}

type Answered = (f64, bool);

/// Sends every request at its time. Returns milliseconds of each, and whether it was heavy.
fn ask_all(
    group: &BalancedGroup,
    requests: &[(Duration, bool)],
) -> Result<(Vec<Answered>, CallCounts), BenchError> {
    let next = AtomicU32::new(0);
    let all = Mutex::new((Vec::new(), CallCounts::default()));
    let start = Instant::now();
    let one = || -> io::Result<()> {
        let (mut times, mut counts) = (Vec::new(), CallCounts::default());
        while let Some((due, heavy)) = usize::try_from(next.fetch_add(1, Ordering::Relaxed))
            .ok()
            .and_then(|at| requests.get(at))
        {
            thread::sleep(due.saturating_sub(start.elapsed()));
            let answered = ask(group, if *heavy { LIGHT * TIMES } else { LIGHT });
            if answered.is_ok() {
                let time = start.elapsed().saturating_sub(*due);
                times.push((time.as_secs_f64() * 1000.0, *heavy));
            }
            counts.count(answered)?;
        }
        if let Ok(mut all) = all.lock() {
            all.0.extend(times);
            all.1.add(&counts);
        }
        Ok(())
    };
    let results = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(one)).collect();
        clients.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    for result in results {
        let result = result.map_err(|_| "a client panicked".to_owned())?;
        result.map_err(|error| format!("asking {}: {error}", group.address))?;
    }
    all.into_inner().map_err(|_| "a client panicked".to_owned())
}

/// The value below which this many of a thousand are; NaN of none.
fn percentile(of: impl Iterator<Item = f64>, per_mille: usize) -> f64 {
    let mut sorted: Vec<f64> = of.collect();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() * per_mille / 1000).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_capacity_is_asked_for() {
        let requests = schedule(200.0);
        let heavy = requests.iter().filter(|(_, heavy)| *heavy).count();
        let light = requests.len() - heavy;
        let (heavy, light) = (u32::try_from(heavy).unwrap(), u32::try_from(light).unwrap());
        let busy = LIGHT.as_secs_f64() * (f64::from(light) + f64::from(heavy * TIMES));
        let load = busy / 200.0 / f64::from(MEMBERS);
        assert!((0.45..0.55).contains(&load), "{load}");
        assert!((45..=55).contains(&((light + heavy) / heavy)), "{heavy} of {light}");
    }

    #[test]
    fn percentiles() {
        let hundred = || (1..=100).map(f64::from);
        assert!((percentile(hundred(), 990) - 100.0).abs() < 1e-9);
        assert!((percentile(hundred(), 500) - 51.0).abs() < 1e-9);
        assert!(percentile(std::iter::empty(), 990).is_nan());
    }
}
