//! The remedies of `why`, a line each.

use std::collections::BTreeSet;
use std::time::Duration;

use sameport_policy::model::unit;
use sameport_policy::model::{Address, Member, Process, SocketState, is_private_uid};
use sameport_policy::predict::{PredictedRefusal, PredictedResult, Remedy, Uncertainty};

use crate::operations::guard::record::GuardEntry;
use crate::operations::why::{PortUser, WhyAnswer};
use crate::output::guard;
use crate::output::shell;
use crate::output::socket_owner::owner;
use crate::output::text::{printable, seconds_rounded_up};

pub(super) fn lines(answer: &WhyAnswer) -> Vec<String> {
    let mut lines: Vec<String> =
        answer.guard.iter().map(|guard| guard_remedy(answer, guard)).collect();
    lines.extend(match &answer.prediction.result {
        PredictedResult::Refused(refused) => machine_remedies(answer, refused),
        PredictedResult::Uncertain(doubts) => doubtful(answer, doubts),
        PredictedResult::Granted => vec![],
    });
    lines.extend(answer.remedies.iter().filter_map(|remedy| line(answer, remedy)));
    lines
}

/// A guard is changed by root.
fn guard_remedy(answer: &WhyAnswer, guard: &GuardEntry) -> String {
    let user = answer.user.as_deref().map_or_else(|| answer.request.uid.to_string(), printable);
    let allowed = guard::allowed(guard);
    let allowed: String = allowed.iter().map(|rule| format!(" --allow {rule}")).collect();
    let (port, protocol) = (guard.port, guard.protocol());
    format!("as root: sameport guard {port}/{protocol}{allowed} --allow uid={user}")
}

fn machine_remedies(answer: &WhyAnswer, refused: &PredictedRefusal) -> Vec<String> {
    let port = answer.request.address.port();
    match refused {
        PredictedRefusal::NeedsPrivilege => vec![
            "root".into(),
            "the one capability: setcap cap_net_bind_service=+ep PROGRAM".into(),
            format!("for everybody: sysctl net.ipv4.ip_unprivileged_port_start={port}"),
        ],
        PredictedRefusal::NotLocal => vec!["one of the addresses that `ip address` lists".into()],
        PredictedRefusal::NoDevice => vec!["one of the interfaces that `ip link` lists".into()],
        PredictedRefusal::MappedAndV6only => vec!["an IPv6 address, or no --v6only".into()],
        PredictedRefusal::NoScope => vec!["--device with the interface that has it".into()],
        PredictedRefusal::NotTransparent => vec!["root".into()],
        PredictedRefusal::InUse(_) => vec![],
    }
}

/// The ways to a certain answer.
fn doubtful(answer: &WhyAnswer, doubts: &[Uncertainty]) -> Vec<String> {
    let with: Vec<usize> = doubts.iter().map(|doubt| doubt.index).collect();
    let ends = with.iter().filter_map(|at| match &answer.sockets[*at] {
        PortUser::TimeWait(closed) => Some(closed.ends_in),
        PortUser::Socket(_) => None,
    });
    let wait = ends.max().map(wait);
    let unread =
        members(answer, &with).any(|member| member.options.is_none() && member.socket.inode != 0);
    let ask = unread.then(|| "ask as root, which can read every option".to_owned());
    wait.into_iter().chain(ask).collect()
}

fn wait(longest: Duration) -> String {
    format!("wait {} s for closed connections", seconds_rounded_up(longest))
}

fn line(answer: &WhyAnswer, remedy: &Remedy) -> Option<String> {
    Some(match remedy {
        Remedy::ReuseAddress if only_closed_connections(answer) => {
            "SO_REUSEADDR on yours, if the program of the closed connections had it too".into()
        }
        Remedy::ReuseAddress => "SO_REUSEADDR on yours".into(),
        Remedy::Join(_) => {
            "share it, the other side is ready: sameport run --join -- COMMAND".into()
        }
        Remedy::Share(with) => format!(
            "share it: {}, and yours under `sameport run --join -- COMMAND`",
            started_again(answer, with)
        ),
        // The owner of a private group is no user.
        Remedy::AsUser { uid, .. } if is_private_uid(*uid) => return None,
        Remedy::AsUser { uid, restart } => {
            let owner = answer.sockets.iter().find_map(|socket| match socket {
                PortUser::Socket(member) if member.socket.uid == *uid => Some(owner(member)),
                _ => None,
            });
            let owner = owner.unwrap_or_else(|| uid.to_string());
            let run = format!("as user {owner}: sameport run --join -- COMMAND");
            match &restart[..] {
                [] => run,
                with => format!("{run}, after {}", started_again(answer, with)),
            }
        }
        Remedy::Remove(with) => without(answer, with),
        Remedy::OneFamily(address) => format!("{address}: {} only", family(address)),
        Remedy::OtherPort(port) => format!("port {port}, which is free"),
    })
}

/// Whether only connections in TIME_WAIT are in the way.
pub(super) fn only_closed_connections(answer: &WhyAnswer) -> bool {
    let PredictedResult::Refused(PredictedRefusal::InUse(conflicts)) = &answer.prediction.result
    else {
        return false;
    };
    conflicts.iter().all(|conflict| matches!(answer.sockets[conflict.index], PortUser::TimeWait(_)))
}

fn members<'a>(answer: &'a WhyAnswer, with: &'a [usize]) -> impl Iterator<Item = &'a Member> {
    with.iter().filter_map(|at| match &answer.sockets[*at] {
        PortUser::Socket(member) => Some(&**member),
        PortUser::TimeWait(_) => None,
    })
}

fn first<'a>(answer: &WhyAnswer, member: &'a Member) -> Option<&'a Process> {
    answer.servers(member).into_iter().next()
}

/// `pid 4121 started again under `sameport run -- python3 -m http.server``.
fn started_again(answer: &WhyAnswer, with: &[usize]) -> String {
    let pids: BTreeSet<i32> =
        members(answer, with).flat_map(|member| first(answer, member)).map(|p| p.pid).collect();
    let command = members(answer, with)
        .flat_map(|member| first(answer, member))
        .find_map(|process| process.details.as_ref().filter(|details| !details.command.is_empty()))
        .map_or_else(|| "ITS COMMAND".into(), |details| shell::command(&details.command));
    format!("{} started again under `sameport run -- {command}`", named(&pids))
}

fn without(answer: &WhyAnswer, with: &[usize]) -> String {
    let mut ways = Vec::new();
    let units: BTreeSet<&str> = members(answer, with)
        .filter_map(|member| member.cgroup.as_deref().and_then(unit::unit))
        .filter(|unit| unit.ends_with(".service"))
        .collect();
    let mut pids = BTreeSet::new();
    let mut runs = BTreeSet::new();
    for member in members(answer, with) {
        let in_unit =
            member.cgroup.as_deref().and_then(unit::unit).is_some_and(|u| units.contains(u));
        // The supervisor of a named run would restart the process.
        let run = answer.run(member);
        runs.extend(run.filter(|_| !in_unit));
        let others = member.processes.iter().filter(|_| !in_unit && run.is_none());
        pids.extend(others.map(|process| process.pid));
    }
    ways.extend(runs.iter().map(|name| format!("sameport stop {name}")));
    if !units.is_empty() {
        let units: Vec<_> = units.iter().map(|unit| shell::word(unit)).collect();
        ways.push(format!("systemctl stop {}", units.join(" ")));
    }
    if !pids.is_empty() {
        let pids: Vec<_> = pids.iter().map(i32::to_string).collect();
        ways.push(format!("kill {}", pids.join(" ")));
    }
    let unseen = |member: &Member| member.processes.is_empty() && member.socket.inode != 0;
    if members(answer, with).any(unseen) {
        ways.push("end the program that root can see".into());
    }
    let closing =
        |member: &Member| member.socket.inode == 0 && member.socket.state == SocketState::Connected;
    if members(answer, with).any(closing) {
        ways.push("wait until the kernel has ended the connections without a process".into());
    }
    let ends = with.iter().filter_map(|at| match &answer.sockets[*at] {
        PortUser::TimeWait(closed) => Some(closed.ends_in),
        PortUser::Socket(_) => None,
    });
    if let Some(longest) = ends.max() {
        ways.push(wait(longest));
    }
    ways.join(", and ")
}

fn named(pids: &BTreeSet<i32>) -> String {
    match pids.iter().collect::<Vec<_>>()[..] {
        [] => "the other".into(),
        [only] => format!("pid {only}"),
        [first, ref rest @ ..] => format!("pid {first} and {} more", rest.len()),
    }
}

fn family(address: &Address) -> &'static str {
    if address.socket.is_ipv4() { "IPv4" } else { "IPv6" }
}
