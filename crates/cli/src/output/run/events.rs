//! The events of `run` as lines of text.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use sameport_policy::bind::map::{MapRule, RuleSide};
use sameport_policy::holder::Holder;
use sameport_policy::lifecycle::CanaryOutcome;
use sameport_policy::model::{Address, Protocol};
use sameport_policy::predict::Winner;
use sameport_supervisor::control::protocol::{TrafficPort, WorkerPhase, WorkerUpdate};
use sameport_supervisor::{
    AnswerTrouble, ContestedTraffic, InterposerKind, OutOfReach, PrivateSocketError, Remark,
    RunError, RunEvent, UnusedOption,
};

use super::worker_change::sentence;
use crate::error::{Failure, interposer_name, permit, refusal_advice, sandbox_reason};
use crate::output::shell;
use crate::output::socket_owner::holder_label;
use crate::output::text::{seconds_rounded_up, sentence_list};

/// Members or pids in one line.
const LISTED: usize = 8;

/// The lines of one event; none for an event that later events imply.
pub(crate) fn event_lines(event: &RunEvent) -> Vec<String> {
    match event {
        RunEvent::Begun { .. } => Vec::new(),
        RunEvent::Shared { address, sharers } => vec![shared(address, sharers)],
        RunEvent::Contested(contest) => vec![contested(contest)],
        RunEvent::Refused { address, refusal } => {
            let (error, hint) = refusal_advice(address, refusal);
            vec![format!("error: {error}"), format!("hint: {hint}")]
        }
        RunEvent::OutOfReach { tid, why } => vec![out_of_reach(*tid, *why)],
        RunEvent::AnswerTrouble { tid, trouble } => vec![answer_trouble(*tid, trouble)],
        RunEvent::InspectFailed { address, why } => {
            vec![format!("warning: cannot list the sockets on {address}: {why}")]
        }
        RunEvent::Untracked { count } => vec![format!(
            "note: {count} binds and listens came faster than they could be followed: their \
             results are not reported"
        )],
        RunEvent::WorkerEnded { ordinal, pid, exit, running } => {
            vec![format!("worker {ordinal} (pid {pid}) {exit}; {running} still running")]
        }
        RunEvent::DaemonsServe { pids } => vec![format!(
            "the command has ended and left {} running; sameport stays until they end",
            processes(pids)
        )],
        RunEvent::TakesOver { supervisor, pids, stops } => {
            let purpose = if *stops { "ends" } else { "takes over" };
            vec![format!(
                "the supervisor before (pid {supervisor}) was killed; this one {purpose} its workers: {}",
                processes(pids)
            )]
        }
        RunEvent::NotReplaced { error, hint } => {
            vec![format!("error: {error}"), format!("hint: {hint}")]
        }
        RunEvent::Leaving { time } => vec![leaving(*time)],
        RunEvent::CanaryEnded { command, outcome } => vec![canary_ended(command, outcome)],
        RunEvent::EndingLeftovers { pids } => {
            vec![format!("ending what the command left behind: {}", processes(pids))]
        }
        RunEvent::Remark(remark) => remark_lines(remark),
        RunEvent::InterposerSelected { interposer, skipped } => {
            interposer_selected(*interposer, skipped)
        }
        RunEvent::Sandboxed(refused) => vec![
            format!("warning: {}: sockets are listed from /proc/net", sandbox_reason(refused)),
            format!("hint: {}", permit(refused)),
        ],
        RunEvent::Unused(option) => unused(option),
        RunEvent::WorkerChanged(change) => worker_changed(change).into_iter().collect(),
        RunEvent::Detached { ordinal, pid, remaining } => {
            vec![detached(*ordinal, *pid, remaining)]
        }
        RunEvent::NotAccepting { ordinal, pid, waiting } => vec![format!(
            "warning: worker {ordinal} (pid {pid}) does not accept connections; {waiting} wait"
        )],
        RunEvent::Closed { ordinal, pid, address } => vec![
            format!(
                "warning: worker {ordinal} (pid {pid}) has closed {address} and runs on; \
                 connections that wait there are not served until it ends"
            ),
            "hint: `sameport restart` replaces it".into(),
        ],
        RunEvent::ListensAgain { address } => vec![format!(
            "warning: a worker stopped the listener on {address} (connect with AF_UNSPEC); it listens \
             again, and the connections that waited there are lost"
        )],
        RunEvent::PolicyNotInForce { address, why } => vec![format!(
            "warning: the policy is not in force on {}, where the kernel's hash selects: {why}",
            address.labelled()
        )],
        RunEvent::PolicyRestored { port, by, strangers } => {
            vec![policy_restored(*port, by, strangers)]
        }
        RunEvent::Unkillable { pids } => {
            vec![format!("error: {} did not end by SIGKILL", processes(pids))]
        }
    }
}

fn leaving(time: Duration) -> String {
    let left = seconds_rounded_up(time);
    format!("the run leaves: it serves on for {left} s and then stops")
}

fn detached(ordinal: u16, pid: i32, remaining: &[i32]) -> String {
    let left = processes(remaining);
    format!(
        "worker {ordinal}: pid {pid} exited with 0 and left {left} running, which serve in its place"
    )
}

/// A program had taken the place of the policy. `strangers`: members of the groups that are of others.
fn policy_restored(port: TrafficPort, by: &str, strangers: &[String]) -> String {
    let protocol = if port.udp { "udp" } else { "tcp" };
    let mut text = format!(
        "warning: {by} had replaced the policy of {}/{protocol}, which is set again",
        port.port
    );
    if !strangers.is_empty() {
        text.push_str(&format!("; not of this run, and in its groups: {}", strangers.join(", ")));
    }
    text
}

/// `the canary (./server-v2) is rolled back: canary 1 exited with 3`.
fn canary_ended(command: &[OsString], outcome: &CanaryOutcome) -> String {
    let canary = format!("the canary ({})", shell::os_command(command));
    match outcome {
        CanaryOutcome::Promoted { by_itself: false } => format!("{canary} is promoted"),
        CanaryOutcome::Promoted { by_itself: true } => {
            format!("{canary} is promoted: its time is over without a failure")
        }
        CanaryOutcome::RolledBack => format!("{canary} is rolled back"),
        CanaryOutcome::Failed(ordinal, why) => {
            format!("error: {canary} is rolled back: canary {ordinal}: {why}")
        }
    }
}

/// `0.0.0.0:8080/tcp is now shared by 2: pid 4121 (hello), pid 4130 (hello)`.
fn shared(address: &Address, sharers: &[Holder]) -> String {
    let list = sentence_list(sharers.iter().map(holder_label), LISTED);
    format!("{} is now shared by {}: {list}", address.labelled(), sharers.len())
}

/// One of two sockets takes traffic that the other would get.
fn contested(contest: &ContestedTraffic) -> String {
    let ContestedTraffic { traffic, winner, between: [first, second] } = contest;
    let (winner, loser) = match winner {
        Winner::Second => (second, first),
        Winner::First | Winner::ByOrder => (first, second),
    };
    let unit = match traffic.protocol {
        Protocol::Tcp => "connections",
        Protocol::Udp => "datagrams",
    };
    let is_ipv4 = traffic.socket.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let part = if is_ipv4 && loser.0.is_dual_stack() && traffic.device.is_none() {
        format!("IPv4 {unit}")
    } else if traffic.socket == winner.0.socket {
        format!("{unit} to it")
    } else {
        format!("{unit} to {traffic}")
    };
    let side = |(address, holder): &(Address, Holder)| {
        format!("{} ({})", address.labelled(), holder_label(holder))
    };
    match contest.winner {
        Winner::ByOrder => format!(
            "note: {} or {} takes all {unit} to {traffic}, by the order of their binds",
            side(first),
            side(second)
        ),
        _ => format!("note: {} takes all {part}, {} gets none of those", side(winner), side(loser)),
    }
}

fn out_of_reach(tid: i32, why: OutOfReach) -> String {
    match why {
        OutOfReach::PtraceDenied => format!(
            "warning: the sockets of thread {tid} cannot be reached (it is not dumpable, or \
             ptrace_scope forbids it); its ports are not shared, and with --map, --source, \
             --transparent or --private its calls are refused"
        ),
        OutOfReach::DescriptorLimit => format!(
            "warning: sameport has no descriptor left to reach the sockets of thread {tid}: raise \
             the limit (`ulimit -Hn`); some ports are not shared"
        ),
        OutOfReach::LibraryNotLoaded => format!(
            "warning: process {tid} did not load the preload library and did not end when asked; \
             its ports are not shared"
        ),
        OutOfReach::OwnDescriptorTable => format!(
            "warning: thread {tid} has a descriptor table of its own, which needs Linux 6.9 to \
             reach; its ports are not shared"
        ),
    }
}

fn answer_trouble(tid: i32, trouble: &AnswerTrouble) -> String {
    match trouble {
        AnswerTrouble::Slow(limit) => format!(
            "warning: a call of thread {tid} has not been answered for {} s: its memory or its \
             descriptor belongs to a file system that does not respond; only this worker waits",
            limit.as_secs()
        ),
        AnswerTrouble::Panicked => format!(
            "warning: the answer to a call of thread {tid} failed by an error of sameport; the \
             worker's ports are not shared, and with --map, --source, --transparent or --private \
             its calls are refused"
        ),
        AnswerTrouble::Failed(error) => {
            format!("warning: the calls of a worker cannot be answered: {error}; trying again")
        }
    }
}

/// The options that give the program's socket the loopback address of its own family.
fn rules_by_family(asked: SocketAddr, rule: MapRule) -> String {
    let loopback: IpAddr = match asked {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let from = RuleSide { ip: Some(asked.ip()), port: Some(asked.port()) };
    let to = RuleSide { ip: Some(loopback), port: rule.to.port };
    let own = MapRule { protocol: rule.protocol, from, to };
    let option = |rule: MapRule| format!("--map {}", shell::word(&rule.to_string()));
    match rule.from.ip {
        Some(_) => format!("for this one: {}", option(own)),
        None => format!("give a rule for each: {} {}", option(rule), option(own)),
    }
}

fn remark_lines(remark: &Remark) -> Vec<String> {
    match remark {
        Remark::OneFamily { asked, target } => vec![format!(
            "note: the program asked for IPv4 and IPv6 on port {}, and --map gives it {}, which is \
             IPv4 only",
            asked.port(),
            SocketAddr::new(target.ip().to_canonical(), target.port())
        )],
        Remark::Counterpart { asked, target, rule } => vec![format!(
            "note: --map {rule}: the program's socket for {asked} has the other family, and gets \
             {target}"
        )],
        Remark::OtherFamily { asked, rule } => vec![
            format!(
                "error: --map {rule}: the program's socket for {asked} cannot have that address"
            ),
            format!("hint: a socket has one family; {}", rules_by_family(*asked, *rule)),
        ],
        Remark::NotPrivate { asked, why: PrivateSocketError::Refused(errno) } => vec![format!(
            "error: {asked} was refused: its socket cannot join the private group: fchown: {errno}"
        )],
        Remark::NotPrivate { asked, why: PrivateSocketError::OnDevice } => vec![
            format!(
                "error: {asked} was refused: its socket is bound to a device and cannot be \
                 private: sockets on other devices can take its traffic"
            ),
            "hint: bind an address instead, or leave the port out of the group by --port".into(),
        ],
    }
}

fn interposer_selected(
    interposer: InterposerKind,
    skipped: &[(InterposerKind, RunError)],
) -> Vec<String> {
    let reasons = skipped.iter().map(|(skipped, error)| {
        format!("{} cannot: {}", interposer_name(*skipped), Failure::from(error).message)
    });
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    let line = format!("using {}, because {reasons}", interposer_name(interposer));
    let permits = skipped.iter().find_map(|(_, error)| match error {
        RunError::Sandboxed(refused) => Some(format!("hint: {}", permit(refused))),
        _ => None,
    });
    std::iter::once(line).chain(permits).collect()
}

fn unused(option: &UnusedOption) -> Vec<String> {
    match option {
        UnusedOption::Rule(rule) => vec![
            format!("warning: --map {rule} was never used: no bind that sameport saw matches it"),
            "hint: `sameport ls` lists what a program binds".into(),
        ],
        UnusedOption::Source(source) => vec![format!(
            "warning: --source {} was never used: the program made no connection that could come \
             from there",
            RuleSide { ip: Some(source.ip()), port: Some(source.port()).filter(|port| *port != 0) }
        )],
        UnusedOption::Transparent => never_bound("--transparent"),
        UnusedOption::Freebind => never_bound("--freebind"),
    }
}

fn never_bound(option: &str) -> Vec<String> {
    vec![format!("warning: {option} was never used: the program bound no socket that sameport saw")]
}

/// A change of a worker's phase; none for a plain start, which the ready line implies.
fn worker_changed(change: &WorkerUpdate) -> Option<String> {
    match change.state {
        WorkerPhase::Starting if change.why.is_none() => None,
        WorkerPhase::GivenUp => Some(format!("error: {}", sentence(change))),
        _ => Some(sentence(change)),
    }
}

fn processes(pids: &[i32]) -> String {
    sentence_list(pids.iter().map(|pid| format!("pid {pid}")), LISTED)
}
