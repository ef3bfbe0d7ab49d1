//! The counts of open connections, compared with `ss` while connections end in every way, members are killed,
//! join and leave, and the controller is killed.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::bench::{Args, Bench};
use super::chooser::{BalanceArm, Chooser};
use super::endings::{EndingClient, EndingLoad};
use super::figures::{BalanceFigure, Bound};
use super::group::{BalancedGroup, GroupPlan};
use super::measure::BalanceMeasure;
use crate::error::BenchError;
use crate::harness::{find_program, start, subject};
use crate::report::progress;

const MEMBERS: u16 = 8;
const CLIENTS: u8 = 16;
/// Comparisons, spread over the connections.
const PAUSES: u64 = 10;
/// How long the last closes may take.
const SETTLE: Duration = Duration::from_secs(10);

type OpenOfPid = BTreeMap<u32, u64>;

/// Compares the counts of `sameport steer PORT --json` with `ss` in each pause.
pub(crate) fn drift(bench: &Bench, args: &Args) -> Result<Vec<BalanceFigure>, BenchError> {
    if find_program("ss").is_none() {
        progress("drift: not measured: ss is not here: apt-get install iproute2");
        return Ok(Vec::new());
    }
    let mut figures = Vec::new();
    for policy in ["least-connections"] {
        let arm = BalanceArm::new(Chooser::Ebpf, policy);
        if !bench.measures(arm.chooser) {
            continue;
        }
        match one(bench, arm, args.drift) {
            Ok(figure) => figures.push(figure),
            Err(why) => bench.leave_out(BalanceMeasure::Drift, arm, &why),
        }
    }
    Ok(figures)
}

fn one(bench: &Bench, arm: BalanceArm, connections: u64) -> Result<BalanceFigure, BenchError> {
    // Programs that know nothing, whose group is steered from outside.
    let plain = BalanceArm::new(Chooser::Hash, "hash");
    let mut group = BalancedGroup::start(plain, GroupPlan::of(MEMBERS), &bench.sameport)?;
    group.members(MEMBERS)?;
    let port = group.address.port().to_string();
    group.done(&["steer", &port, arm.policy])?;
    let load = EndingLoad {
        address: group.address,
        begun: AtomicU64::new(0),
        until: AtomicU64::new(0),
        over: AtomicBool::new(false),
    };
    let mut clients: Vec<EndingClient> = (0..CLIENTS).map(EndingClient::new).collect();
    let (mut off, mut events) = (0, MemberEvents::default());
    for pause in 1..=PAUSES {
        load.begun.store(connections * (pause - 1) / PAUSES, Ordering::Relaxed);
        load.until.store(connections * pause / PAUSES, Ordering::Relaxed);
        load.over.store(false, Ordering::Relaxed);
        let outcome = thread::scope(|scope| {
            let load = &load;
            let working: Vec<_> =
                (clients.iter_mut()).map(|client| scope.spawn(move || client.work(load))).collect();
            let mut failed = Ok(());
            while failed.is_ok() && working.iter().any(|client| !client.is_finished()) {
                failed = events.next(&mut group, arm.policy);
            }
            load.over.store(failed.is_err(), Ordering::Relaxed);
            for client in working {
                let done = client.join().map_err(|_| "a client panicked".to_owned())?;
                done.map_err(|error| format!("connecting to {}: {error}", load.address))?;
            }
            failed
        });
        outcome?;
        // A killed controller may have left the port to the hash; the counts must hold all the same.
        group.done(&["steer", &port, arm.policy])?;
        let (differ, text) = compared(&group, &port)?;
        off += differ;
        progress(&format!("drift, pause {pause} of {PAUSES}: {text}; {}", events.text()));
    }
    let mut counts = super::callers::CallCounts::default();
    clients.iter().for_each(|client| counts.add(&client.counts));
    group.done(&["steer", &port, "off"])?;
    #[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
    let off = off as f64;
    let mut figure = BalanceFigure::new(BalanceMeasure::Drift, arm, MEMBERS, "counts off", off);
    figure.details = events.figures();
    Ok(figure.bound(Bound::AtMost(0.0)).counts(counts))
}

/// What happened to members and to the controller.
#[derive(Debug, Default)]
struct MemberEvents {
    number: u32,
    killed: u32,
    left: u32,
    joined: u32,
    controllers: u32,
}

impl MemberEvents {
    /// One event. A killed member and one that leaves are replaced.
    fn next(&mut self, group: &mut BalancedGroup, policy: &str) -> Result<(), BenchError> {
        self.number += 1;
        match self.number % 4 {
            0 => {
                let mut killed = group.processes.remove(0);
                killed.signal(Signal::KILL);
                self.killed += 1;
                self.join(group)?;
            }
            1 => {
                // It ends by its stdin.
                drop(group.processes.remove(0));
                self.left += 1;
                self.join(group)?;
            }
            _ => {
                self.controllers += 1;
                let pause = Duration::from_millis(u64::from(self.number * 7 % 40));
                killed_controller(group, policy, pause)?;
            }
        }
        thread::sleep(Duration::from_millis(100));
        Ok(())
    }

    fn join(&mut self, group: &mut BalancedGroup) -> Result<(), BenchError> {
        let port = group.address.port().to_string();
        group.processes.push(start(&subject(&["member", &port, "--shared"])?)?);
        self.joined += 1;
        Ok(())
    }

    fn text(&self) -> String {
        format!(
            "{} killed, {} left, {} joined, {} controllers killed",
            self.killed, self.left, self.joined, self.controllers
        )
    }

    fn figures(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("killed", self.killed.into()),
            ("left", self.left.into()),
            ("joined", self.joined.into()),
            ("controllers killed", self.controllers.into()),
        ]
    }
}

/// Starts a controller, and kills it after this time, wherever it is.
fn killed_controller(
    group: &BalancedGroup,
    policy: &str,
    after: Duration,
) -> Result<(), BenchError> {
    let port = group.address.port().to_string();
    let mut command = Command::new(&group.sameport);
    command.args(["steer", &port, policy]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("sameport steer: {error}"))?;
    thread::sleep(after);
    // Either may fail because it has ended.
    let _ = child.kill();
    child.wait().map(drop).map_err(|error| format!("sameport steer: {error}"))
}

/// The sum of the differences, and a sentence. The last closes take a moment.
fn compared(group: &BalancedGroup, port: &str) -> Result<(u64, String), BenchError> {
    let until = Instant::now() + SETTLE;
    loop {
        let counted = counted(&group.done(&["steer", port, "--json"])?)?;
        let real = real(port)?;
        let pids = counted.keys().chain(real.keys()).collect::<std::collections::BTreeSet<_>>();
        let of = |map: &OpenOfPid, pid: &u32| map.get(pid).copied().unwrap_or(0);
        let differ: u64 =
            pids.into_iter().map(|pid| of(&counted, pid).abs_diff(of(&real, pid))).sum();
        if differ == 0 || Instant::now() > until {
            let all: u64 = real.values().sum();
            let text = format!("{all} open, {differ} off: counted {counted:?}, ss {real:?}");
            return Ok((differ, text));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The counts of members, by pid.
fn counted(json: &str) -> Result<OpenOfPid, BenchError> {
    let status: Value = serde_json::from_str(json).map_err(|error| format!("--json: {error}"))?;
    let members = found(&status).ok_or("--json: no members")?;
    let mut open = OpenOfPid::new();
    for member in members {
        let pid = member["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let count = member["open"].as_u64();
        if let (Some(pid), Some(count)) = (pid, count) {
            *open.entry(pid).or_default() += count;
        }
    }
    if open.is_empty() { Err(format!("--json: no open connections: {json}")) } else { Ok(open) }
}

/// The value of `members` at any depth.
fn found(value: &Value) -> Option<&Vec<Value>> {
    match value {
        Value::Object(fields) => match fields.get("members") {
            Some(Value::Array(members)) => Some(members),
            _ => fields.values().find_map(found),
        },
        Value::Array(values) => values.iter().find_map(found),
        _ => None,
    }
}

/// Connections of each process, from `ss`.
fn real(port: &str) -> Result<OpenOfPid, BenchError> {
    // With the address: the port of a client can be the same number.
    let from = format!("127.0.0.1:{port}");
    let filter = ["-Htnp", "state", "established", "state", "close-wait", "src", &from];
    let output = Command::new("ss").args(filter).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("ss: {error}"))?;
    if !output.status.success() {
        return Err(format!("ss: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(by_process(&String::from_utf8_lossy(&output.stdout)))
}

fn by_process(lines: &str) -> OpenOfPid {
    let mut open = OpenOfPid::new();
    for line in lines.lines() {
        let pid = line.split_once("pid=").and_then(|(_, rest)| rest.split(',').next());
        // 0: a connection that waits in a queue.
        *open.entry(pid.and_then(|pid| pid.parse().ok()).unwrap_or(0)).or_default() += 1;
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_ss_are_counted_by_process() {
        let line = |pid| {
            format!("ESTAB 0 0 127.0.0.1:80 127.0.0.1:5 users:((\"member\",pid={pid},fd=5))\n")
        };
        let text = line(7) + &line(8) + &line(7) + "CLOSE-WAIT 1 0 127.0.0.1:80 127.0.0.1:6\n";
        assert_eq!(by_process(&text), OpenOfPid::from([(0, 1), (7, 2), (8, 1)]));
    }

    #[test]
    fn the_counts_of_a_status_are_read() {
        let json =
            r#"{"traffic":[{"members":[{"pid":7,"open":3},{"pid":8,"open":0},{"pid":null}]}]}"#;
        assert_eq!(counted(json), Ok(OpenOfPid::from([(7, 3), (8, 0)])));
        assert!(counted("{}").is_err());
    }
}
