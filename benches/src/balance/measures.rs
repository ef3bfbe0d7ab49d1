//! The measures that need only clients: spread, a stopped member, weights, stickiness, the rate.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::bench::{Args, Bench};
use super::callers::{CallCounts, Callers, Enough, percent};
use super::chooser::{BalanceArm, Chooser};
use super::figures::{BalanceFigure, Bound, mean};
use super::group::{GroupPlan, signal};
use super::measure::BalanceMeasure;
use crate::error::BenchError;
use crate::figures::{Pairs, in_turns};
use crate::harness::PATIENCE;
use crate::report::progress;

/// Every arm of the measure `long`, and of those that are like it.
pub(crate) const SPREADING: [BalanceArm; 9] = [
    BalanceArm { chooser: Chooser::Hash, policy: "hash" },
    BalanceArm { chooser: Chooser::Classic, policy: "random" },
    BalanceArm { chooser: Chooser::Ebpf, policy: "random" },
    BalanceArm { chooser: Chooser::Ebpf, policy: "round-robin" },
    BalanceArm { chooser: Chooser::Ebpf, policy: "two-choices" },
    BalanceArm { chooser: Chooser::Ebpf, policy: "least-connections" },
    BalanceArm { chooser: Chooser::Haproxy, policy: "leastconn" },
    BalanceArm { chooser: Chooser::Nginx, policy: "least_conn" },
    BalanceArm { chooser: Chooser::Shared, policy: "" },
];

const LONG_CONNECTIONS: u16 = 64;

/// Long connections, opened one after the other: the busiest member, divided by the mean.
pub(crate) fn long(bench: &Bench, args: &Args) -> Result<Vec<BalanceFigure>, BenchError> {
    const MEMBERS: u16 = 8;
    Ok(bench.each(BalanceMeasure::Long, &SPREADING, GroupPlan::of(MEMBERS), |arm, group| {
        group.members(MEMBERS)?;
        let callers = group.callers(1, PATIENCE);
        let (mut trials, mut counts) = (Vec::new(), CallCounts::default());
        for _ in 0..args.trials {
            let mut held = Vec::new();
            let mut of_trial = CallCounts::default();
            for _ in 0..LONG_CONNECTIONS {
                let greeted = callers.greeted(None);
                let pid = greeted.map(|greeted| {
                    let pid = greeted.pid;
                    held.push(greeted);
                    pid
                });
                of_trial.count(pid).map_err(|error| error.to_string())?;
            }
            let most = of_trial.of_member.values().max().copied().unwrap_or(0);
            let even = f64::from(LONG_CONNECTIONS) / f64::from(MEMBERS);
            trials.push(f64::from(u32::try_from(most).unwrap_or(u32::MAX)) / even);
            counts.add(&of_trial);
            drop(held);
            callers.settle()?;
        }
        let bound = match (arm.chooser, arm.policy) {
            (Chooser::Ebpf, "least-connections") => Bound::AtMost(1.02),
            (Chooser::Ebpf, "two-choices") => Bound::AtMost(1.25),
            _ => Bound::None,
        };
        let figure =
            BalanceFigure::new(BalanceMeasure::Long, arm, MEMBERS, "max / mean", mean(&trials));
        Ok(figure.range(&trials).bound(bound).counts(counts))
    }))
}

/// One member is stopped: new connections that get no answer in time.
pub(crate) fn stopped(bench: &Bench, args: &Args) -> Result<Vec<BalanceFigure>, BenchError> {
    const MEMBERS: u16 = 4;
    let patience = Duration::from_millis(args.patience);
    Ok(bench.each(BalanceMeasure::Stopped, &SPREADING, GroupPlan::of(MEMBERS), |arm, group| {
        let pids = group.members(MEMBERS)?;
        signal(pids[1], Signal::STOP)?;
        let enough = Enough { connections: 4000, time: Duration::from_secs_f64(args.seconds) };
        let called = group.callers(16, patience).call(enough);
        signal(pids[1], Signal::CONT)?;
        let (counts, _) = called?;
        let stalled = percent(counts.lost(), counts.connections);
        let bound = match (arm.chooser, arm.policy) {
            (Chooser::Ebpf, "least-connections" | "two-choices") => Bound::AtMost(0.5),
            _ => Bound::None,
        };
        let figure =
            BalanceFigure::new(BalanceMeasure::Stopped, arm, MEMBERS, "stalled, %", stalled);
        Ok(figure.bound(bound).counts(counts))
    }))
}

/// Three members with the weights 90, 10 and 0: the largest distance from the wanted part.
pub(crate) fn weights(bench: &Bench, args: &Args) -> Result<Vec<BalanceFigure>, BenchError> {
    const WEIGHTS: [u32; 3] = [90, 10, 0];
    let arms = [
        BalanceArm::new(Chooser::Classic, "weights"),
        BalanceArm::new(Chooser::Ebpf, "weights"),
        BalanceArm::new(Chooser::Haproxy, "roundrobin"),
        BalanceArm::new(Chooser::Nginx, "roundrobin"),
    ];
    let plan = GroupPlan { weights: &WEIGHTS, ..GroupPlan::of(3) };
    Ok(bench.each(BalanceMeasure::Weights, &arms, plan, |arm, group| {
        // A proxy gives the third member nothing, so it is not found.
        let pids = if arm.is_ours() { group.members(3)? } else { group.members(2)? };
        if arm.is_ours() {
            let port = group.address.port().to_string();
            let values: Vec<_> =
                pids.iter().zip(WEIGHTS).map(|(pid, weight)| format!("{pid}={weight}")).collect();
            let words: Vec<&str> = values.iter().map(String::as_str).collect();
            group.done(&[&["steer", &port, "weights"], &words[..]].concat())?;
        }
        // A proxy makes two connections of each, and is not what is examined here.
        let connections = args.connections / if arm.is_ours() { 1 } else { 10 };
        let enough = Enough { connections, time: Duration::MAX };
        let (counts, _) = group.callers(16, PATIENCE).call(enough)?;
        let mut shares: Vec<f64> = match arm.is_ours() {
            true => pids.iter().map(|pid| counts.share(*pid)).collect(),
            false => counts.of_member.keys().map(|pid| counts.share(*pid)).collect(),
        };
        if !arm.is_ours() {
            shares.sort_by(|a, b| b.total_cmp(a));
        }
        shares.resize(3, 0.0);
        let off =
            shares.iter().zip(WEIGHTS).map(|(share, wanted)| (share - f64::from(wanted)).abs());
        let off = off.fold(0.0, f64::max);
        let bound = if arm.is_ours() { Bound::AtMost(1.0) } else { Bound::None };
        let mut figure =
            BalanceFigure::new(BalanceMeasure::Weights, arm, 3, "points off", off).bound(bound);
        figure.details =
            ["first, %", "second, %", "third, %"].into_iter().zip(shares.iter().copied()).collect();
        if arm.is_ours() && shares[2] > 0.0 {
            // None at all: any connection is a failure.
            figure.value = f64::INFINITY;
        }
        Ok(figure.counts(counts))
    }))
}

/// Clients with an address each; one member ends. Counts the clients that get another member.
pub(crate) fn sticky(bench: &Bench, args: &Args) -> Result<Vec<BalanceFigure>, BenchError> {
    const MEMBERS: u16 = 8;
    let arms = [
        BalanceArm::new(Chooser::Hash, "hash"),
        BalanceArm::new(Chooser::Classic, "sticky"),
        BalanceArm::new(Chooser::Ebpf, "sticky"),
        BalanceArm::new(Chooser::Haproxy, "source"),
        BalanceArm::new(Chooser::Nginx, "hash $remote_addr consistent"),
    ];
    Ok(bench.each(BalanceMeasure::Sticky, &arms, GroupPlan::of(MEMBERS), |arm, group| {
        group.wait_until_ready(MEMBERS)?;
        let callers = group.callers(1, PATIENCE);
        let mut counts = CallCounts::default();
        let ask = |counts: &mut CallCounts| -> Result<BTreeMap<u16, u32>, BenchError> {
            let mut of_client = BTreeMap::new();
            for client in 0..args.clients {
                let [third, fourth] = (client + 1).to_be_bytes();
                let greeted = callers.greeted(Some(Ipv4Addr::new(127, 9, third, fourth)));
                let greeted = greeted.map(|greeted| greeted.pid);
                if let Ok(pid) = greeted {
                    of_client.insert(client, pid);
                }
                counts.count(greeted).map_err(|error| error.to_string())?;
            }
            Ok(of_client)
        };
        all_answer(&callers, MEMBERS)?;
        let before = ask(&mut counts)?;
        let again = ask(&mut counts)?;
        let pid = before.values().next().copied().ok_or("no member answered")?;
        if arm.is_ours() {
            // A named run would replace a member that ends.
            let (port, pid) = (group.address.port().to_string(), pid.to_string());
            group.done(&["drain", &port, &pid])?;
        } else {
            signal(pid, Signal::KILL)?;
        }
        thread::sleep(Duration::from_millis(500));
        let after = ask(&mut counts)?;
        let differ = |a: &BTreeMap<u16, u32>, b: &BTreeMap<u16, u32>| {
            let moved = a.iter().filter(|(client, member)| b.get(client) != Some(member)).count();
            percent(moved as u64, a.len() as u64)
        };
        let own = before.values().filter(|member| **member == pid).count();
        let own = percent(own as u64, before.len() as u64);
        let moved = differ(&before, &after);
        let most = own.max(12.5) + 1.0;
        let bound = if arm.is_ours() { Bound::AtMost(most) } else { Bound::None };
        let mut figure =
            BalanceFigure::new(BalanceMeasure::Sticky, arm, MEMBERS, "moved, %", moved);
        figure.details = vec![("its own, %", own), ("moved before, %", differ(&before, &again))];
        Ok(figure.bound(bound).counts(counts))
    }))
}

/// Waits until this many members answer clients of different addresses.
fn all_answer(callers: &Callers, members: u16) -> Result<(), BenchError> {
    let until = Instant::now() + PATIENCE / 2;
    let mut pids = BTreeSet::new();
    for client in (0..=250).cycle() {
        match callers.greeted(Some(Ipv4Addr::new(127, 8, client, 1))) {
            Ok(greeted) => {
                pids.insert(greeted.pid);
            }
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
        if pids.len() >= usize::from(members) {
            return Ok(());
        }
        if Instant::now() > until {
            break;
        }
    }
    Err(format!("{}: {} of {members} members answered", callers.address, pids.len()))
}

/// Short connections in turns: the rate, divided by that of the plain group in the same round.
pub(crate) fn rate(bench: &Bench, args: &Args) -> Result<Vec<BalanceFigure>, BenchError> {
    const MEMBERS: u16 = 4;
    let mut arms = Vec::new();
    for (arm, mut group) in bench.groups(BalanceMeasure::Rate, &SPREADING, GroupPlan::of(MEMBERS)) {
        group.members(MEMBERS)?;
        arms.push((arm, group, Pairs::default(), CallCounts::default()));
    }
    let time = Duration::from_secs_f64(args.seconds / 2.0);
    for round in 1..=args.rounds {
        let mut rates = vec![0.0; arms.len()];
        for at in in_turns(arms.len(), round) {
            let (_, group, _, all) = &mut arms[at];
            let enough = Enough { connections: u64::MAX, time };
            let (counts, seconds) = group.callers(16, PATIENCE).call(enough)?;
            #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
            let greeted = counts.greeted() as f64;
            rates[at] = greeted / seconds;
            all.add(&counts);
        }
        let plain = arms.iter().position(|(arm, ..)| arm.chooser == Chooser::Hash);
        let plain = plain.map_or(f64::NAN, |at| rates[at]);
        for ((.., pairs, _), rate) in arms.iter_mut().zip(&rates) {
            pairs.push(plain, *rate);
        }
        progress(&format!("rate, round {round} of {}", args.rounds));
    }
    let best_proxy = (arms.iter())
        .filter(|(arm, ..)| matches!(arm.chooser, Chooser::Haproxy | Chooser::Nginx))
        .map(|(.., pairs, _)| pairs.ratio().median)
        .fold(f64::NAN, f64::max);
    Ok(arms
        .into_iter()
        .map(|(arm, _, pairs, counts)| of_rate(arm, &pairs, counts, best_proxy))
        .collect())
}

fn of_rate(arm: BalanceArm, pairs: &Pairs, counts: CallCounts, best_proxy: f64) -> BalanceFigure {
    let ratio = pairs.ratio();
    let mut figure =
        BalanceFigure::new(BalanceMeasure::Rate, arm, 4, "of plain", ratio.median).counts(counts);
    figure.range = Some((ratio.lowest, ratio.highest));
    figure.details =
        vec![("a second", pairs.with()), ("of the best proxy", ratio.median / best_proxy)];
    figure.is_count = false;
    // 1.3 times the best proxy; and 1 within the noise: not every round is below the plain group.
    let proxy = (!best_proxy.is_nan()).then_some(1.3 * best_proxy);
    let plain = (ratio.highest < 1.0).then_some(1.0);
    let least = proxy.into_iter().chain(plain).reduce(f64::max);
    if let Some(least) = least.filter(|_| arm.is_ours()) {
        figure.bound = Bound::AtLeast(least);
    }
    figure
}
