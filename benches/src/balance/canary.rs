//! Canaries that are promoted and rolled back, again and again, under load.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::bench::{Args, Bench};
use super::callers::CallCounts;
use super::chooser::{BalanceArm, Chooser};
use super::figures::{BalanceFigure, Bound, mean};
use super::front::FOLDER;
use super::group::BalancedGroup;
use super::measure::BalanceMeasure;
use crate::clients::{Clients, Loss, Results, accepted};
use crate::error::BenchError;
use crate::harness::PATIENCE;
use crate::restart::servers::{BenchServer, Program};

const MEMBERS: u16 = 4;

/// Under load: a canary of 10 % and its promotion, then a canary and its rollback. Nothing may be lost.
pub(crate) fn canary(bench: &Bench, args: &Args) -> Result<Vec<BalanceFigure>, BenchError> {
    let program = match Program::find(BenchServer::Threads, Path::new(FOLDER)) {
        Ok(program) => program,
        Err(why) => {
            crate::report::progress(&format!("canary: not measured: {why}"));
            return Ok(Vec::new());
        }
    };
    prepare(&program)?;
    let arms = [
        BalanceArm::new(Chooser::Classic, "random"),
        BalanceArm::new(Chooser::Ebpf, "two-choices"),
        BalanceArm::new(Chooser::Ebpf, "least-connections"),
    ];
    let mut figures = Vec::new();
    for arm in arms.into_iter().filter(|arm| bench.measures(arm.chooser)) {
        match one(bench, arm, &program, args.canaries) {
            Ok(figure) => figures.push(figure),
            Err(why) => bench.leave_out(BalanceMeasure::Canary, arm, &why),
        }
    }
    Ok(figures)
}

/// The script that every worker runs first: it records the connections that it accepts.
fn prepare(program: &Program) -> Result<(), BenchError> {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, before) = (program.accepted(), program.before());
    fs::create_dir_all(&folder)
        // Workers of another user write there.
        .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)))
        .and_then(|()| fs::write(&before, format!("export ACCEPTED='{}'\n", folder.display())))
        .map_err(|error| format!("{}: {error}", folder.display()))
}

fn one(
    bench: &Bench,
    arm: BalanceArm,
    program: &Program,
    times: u32,
) -> Result<BalanceFigure, BenchError> {
    let options = ["-n", "4", "--ready", "tcp"];
    let command = |address| program.command(address, false);
    let group = BalancedGroup::of_run(arm, &bench.sameport, &options, command)?;
    wait_for_answers(&group)?;
    let over = AtomicBool::new(false);
    let clients = Clients::of(group.address, 16);
    let (seen, took) = thread::scope(|scope| {
        let happening = scope.spawn(|| {
            let done = cycles(&group, program, times);
            over.store(true, Ordering::Relaxed);
            done
        });
        let seen = clients.drive(|_| over.load(Ordering::Relaxed));
        let took = happening.join().map_err(|_| "a thread panicked".to_owned())??;
        seen.map(|seen| (seen, took))
            .map_err(|error| format!("connecting to {}: {error}", group.address))
    })?;
    let counts = classified(&seen, program)?;
    #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    let lost = counts.lost() as f64;
    let mut figure = BalanceFigure::new(BalanceMeasure::Canary, arm, MEMBERS, "lost", lost);
    figure.details = vec![("times each", times.into()), ("s each", mean(&took))];
    Ok(figure.bound(Bound::AtMost(0.0)).counts(counts))
}

/// Returns the seconds of each canary with its promotion or rollback.
fn cycles(group: &BalancedGroup, program: &Program, times: u32) -> Result<Vec<f64>, BenchError> {
    let name = group.run_name();
    let command = program.command(group.address, false)?;
    let command: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let words: Vec<&str> = command.iter().map(AsRef::as_ref).collect();
    let mut took = Vec::new();
    for _ in 0..times {
        for end in ["--promote", "--rollback"] {
            let since = Instant::now();
            group.done(&[&["upgrade", &name, "--canary", "10%", "--"], &words[..]].concat())?;
            group.done(&["upgrade", &name, end])?;
            took.push(since.elapsed().as_secs_f64());
        }
    }
    Ok(took)
}

/// Waits until the run answers, and does so again and again.
fn wait_for_answers(group: &BalancedGroup) -> Result<(), BenchError> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let seen = Clients::of(group.address, 1).drive(|begun| begun >= 20);
        let seen = seen.map_err(|error| format!("connecting to {}: {error}", group.address))?;
        if seen.lost.is_empty() {
            // The other workers start at the same time.
            thread::sleep(Duration::from_millis(500));
            return Ok(());
        }
    }
    let said = group.verb(&["status", &group.run_name()])?;
    Err(format!("{} does not answer: {}", group.address, String::from_utf8_lossy(&said.stdout)))
}

fn classified(seen: &Results, program: &Program) -> Result<CallCounts, BenchError> {
    let folder = program.accepted();
    let all = accepted(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut counts = CallCounts { connections: seen.connections(), ..CallCounts::default() };
    for (how, from) in &seen.lost {
        match how {
            Loss::Refused => counts.refused += 1,
            Loss::TimedOut => counts.timed_out += 1,
            Loss::Reset | Loss::WrongAnswer if all.contains(from) => counts.reset_in_hand += 1,
            Loss::Reset | Loss::WrongAnswer => counts.reset_before_accept += 1,
        }
    }
    Ok(counts)
}
