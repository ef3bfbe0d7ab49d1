//! Members that join and leave under load, with what waits in their queues; and the cost of a choice.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::bench::{Args, Bench};
use super::callers::{CallCounts, Enough};
use super::chooser::{BalanceArm, Chooser, MIGRATES};
use super::figures::{BalanceFigure, Bound};
use super::group::{BalancedGroup, GroupPlan};
use super::measure::BalanceMeasure;
use crate::error::BenchError;
use crate::figures::median;
use crate::harness::{PATIENCE, find_program, set, start, subject};

/// Members that always stay.
const STAYING: u16 = 4;
/// Processes whose listeners join and leave together.
const PROCESSES: u16 = 8;
const SOCKETS: u16 = 32;

/// Of the network namespace.
const MIGRATION: &str = "net/ipv4/tcp_migrate_req";

/// The number of parts of the measurement of a choice. The lowest part is the figure.
const SLICES: u32 = 10;

/// 256 members beside four join and leave, again and again. Nothing may be lost.
pub(crate) fn churn(bench: &Bench, args: &Args) -> Result<Vec<BalanceFigure>, BenchError> {
    let arms = ["least-connections", "two-choices", "random"];
    let arms = arms.map(|policy| BalanceArm::new(Chooser::Ebpf, policy));
    let hash = ["hash", MIGRATES].map(|policy| BalanceArm::new(Chooser::Hash, policy));
    let arms = [&hash[..], &arms[..]].concat();
    let mut figures = Vec::new();
    for arm in arms.into_iter().filter(|arm| bench.measures(arm.chooser)) {
        set(MIGRATION, if arm.policy == MIGRATES { "1" } else { "0" })?;
        match one_churn(bench, arm, args.times) {
            Ok(figure) => figures.push(figure),
            Err(why) => bench.leave_out(BalanceMeasure::Churn, arm, &why),
        }
    }
    Ok(figures)
}

fn one_churn(bench: &Bench, arm: BalanceArm, times: u32) -> Result<BalanceFigure, BenchError> {
    // Programs that know nothing, whose group is steered from outside.
    let plain = BalanceArm::new(Chooser::Hash, "hash");
    let mut group = BalancedGroup::start(plain, GroupPlan::of(STAYING), &bench.sameport)?;
    group.members(STAYING)?;
    let port = group.address.port().to_string();
    if arm.chooser == Chooser::Ebpf {
        group.done(&["steer", &port, arm.policy])?;
    }
    const EVERY: Duration = Duration::from_millis(60);
    let (sockets, again) = (SOCKETS.to_string(), times.to_string());
    let every = EVERY.as_millis().to_string();
    let options = ["--shared", "--sockets", &sockets, "--again", &again, "--every", &every];
    let command = subject(&[&["member", &port], &options[..]].concat())?;
    for _ in 0..PROCESSES {
        group.processes.push(start(&command)?);
    }
    // At least until all have left; on a busy machine some of the last do so afterwards.
    let time = EVERY * times + Duration::from_millis(500);
    let enough = Enough { connections: u64::MAX, time };
    let (counts, _) = group.callers(16, PATIENCE).call(enough)?;
    // The rest of the group has to be still for the next command.
    group.processes.truncate(STAYING.into());
    if arm.chooser == Chooser::Ebpf {
        group.done(&["steer", &port, "off"])?;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    let lost = counts.lost() as f64;
    let members = PROCESSES * SOCKETS;
    let mut figure = BalanceFigure::new(BalanceMeasure::Churn, arm, members, "lost", lost);
    figure.details = vec![("times", times.into())];
    // The kernel's own migration has a window, too: `inet_csk_reqsk_queue_add` drops a connection whose
    // listener is closed between its choice and its place in the queue.
    figure.is_count = counts.lost() > counts.connections / 10_000;
    let bound = if arm.is_ours() { Bound::AtMost(0.0) } else { Bound::None };
    Ok(figure.bound(bound).counts(counts))
}

/// Nanoseconds of a choice: run time and runs of the programs that choose, from the kernel's statistics,
/// which cost about 67 ns themselves.
pub(crate) fn choice(bench: &Bench, args: &Args) -> Result<Vec<BalanceFigure>, BenchError> {
    if find_program("bpftool").is_none() {
        crate::report::progress("choice: measured without: bpftool is not here");
        return Ok(Vec::new());
    }
    let _statistics = Statistics::on()?;
    let mut figures = Vec::new();
    for (members, most) in [(4, 250.0), (64, 350.0)] {
        let policies = ["random", "weights", "sticky", "round-robin", "two-choices"];
        let policies = [&policies[..], &["least-connections"]].concat();
        for policy in policies {
            let arm = BalanceArm::new(Chooser::Ebpf, policy);
            if !bench.measures(arm.chooser) {
                continue;
            }
            match one_choice(bench, arm, members, args.seconds) {
                Ok(figure) => figures.push(figure.bound(Bound::AtMost(most))),
                Err(why) => bench.leave_out(BalanceMeasure::Choice, arm, &why),
            }
        }
    }
    Ok(figures)
}

fn one_choice(
    bench: &Bench,
    arm: BalanceArm,
    members: u16,
    seconds: f64,
) -> Result<BalanceFigure, BenchError> {
    let plain = BalanceArm::new(Chooser::Hash, "hash");
    let mut group = BalancedGroup::start(plain, GroupPlan::of(members), &bench.sameport)?;
    let pids = group.members(members)?;
    let port = group.address.port().to_string();
    let known = programs()?;
    let values = pids.iter().zip(1..).map(|(pid, weight)| format!("{pid}={weight}"));
    let values: Vec<String> = values.filter(|_| arm.policy == "weights").collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    group.done(&[&["steer", &port, arm.policy], &values[..]].concat())?;
    let time = Duration::from_secs_f64(seconds / f64::from(SLICES));
    let enough = Enough { connections: 2000, time };
    let (mut slices, mut counts, mut choices) = (Vec::new(), CallCounts::default(), 0.0);
    let mut before = (0, 0);
    for _ in 0..SLICES {
        let (of_slice, _) = group.callers(8, PATIENCE).call(enough)?;
        counts.add(&of_slice);
        let after = programs()?;
        let new = after.iter().filter(|(id, _)| !known.contains_key(id)).map(|(_, it)| *it);
        // Of several programs it is the one that ran for these connections.
        let now = new.min_by_key(|(_, runs)| runs.abs_diff(counts.connections));
        let now = now.ok_or("no program of the type sk_reuseport is new")?;
        #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
        let (nanoseconds, runs) =
            (now.0.saturating_sub(before.0) as f64, now.1.saturating_sub(before.1) as f64);
        if runs > 0.0 {
            slices.push(nanoseconds / runs);
            choices += runs;
        }
        before = now;
    }
    group.done(&["steer", &port, "off"])?;
    // Other load only adds: it evicts the maps from the caches.
    let lowest = slices.iter().copied().fold(f64::INFINITY, f64::min);
    let mut figure =
        BalanceFigure::new(BalanceMeasure::Choice, arm, members, "ns", lowest).range(&slices);
    figure.details = vec![("median", median(slices.iter().copied())), ("choices", choices)];
    figure.is_count = false;
    Ok(figure.counts(counts))
}

/// Nanoseconds and runs of each program of the type `sk_reuseport`, by its number.
fn programs() -> Result<BTreeMap<u64, (u64, u64)>, BenchError> {
    let output = Command::new("bpftool").args(["-j", "prog", "show"]).output();
    let output = output.map_err(|error| format!("bpftool: {error}"))?;
    let all: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("bpftool: {error}"))?;
    let all = all.as_array().ok_or("bpftool: no list of programs")?;
    let number = |of: &Value, name: &str| of[name].as_u64().unwrap_or(0);
    Ok(all
        .iter()
        .filter(|it| it["type"] == "sk_reuseport")
        .map(|it| (number(it, "id"), (number(it, "run_time_ns"), number(it, "run_cnt"))))
        .collect())
}

/// The statistics are on while this exists. The setting is one of the whole machine.
struct Statistics {
    before: String,
}

const SETTING: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl Statistics {
    fn on() -> Result<Self, BenchError> {
        let failed = |error: std::io::Error| format!("{SETTING}: {error}");
        let before = std::fs::read_to_string(SETTING).map_err(failed)?;
        std::fs::write(SETTING, "1").map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _ = std::fs::write(SETTING, self.before.trim());
    }
}
