//! The remedies of `why`, a line each.

use std::time::Duration;

use sameport_policy::holder::{Holder, Rights, endings};
use sameport_policy::model::{Address, Member, Protocol, SocketState, is_private_uid};
use sameport_policy::predict::{PredictedRefusal, PredictedResult, Remedy, Uncertainty};
use sameport_supervisor::guards::record::{AllowEntry, GuardEntry};

use crate::operations::why::{PortUser, WhyAnswer};
use crate::output::guard;
use crate::output::holder::{self, rights_prefix, root_prefix};
use crate::output::text::seconds_rounded_up;

/// `TCP_TIMEWAIT_LEN` (include/net/tcp.h): the end that closes first stays for this time. The kernel compares
/// it with new sockets.
const TIME_WAIT: Duration = Duration::from_secs(60);

pub(super) fn lines(answer: &WhyAnswer) -> Vec<String> {
    let mut lines: Vec<String> = answer.guard.iter().map(|it| guard_remedy(answer, it)).collect();
    lines.extend(match &answer.prediction.result {
        PredictedResult::Refused(refused) => machine_remedies(answer, refused),
        PredictedResult::Uncertain(doubts) => doubtful(answer, doubts),
        PredictedResult::Granted => vec![],
    });
    lines.extend(answer.remedies.iter().filter_map(|remedy| line(answer, remedy)));
    lines
}

fn guard_remedy(answer: &WhyAnswer, entry: &GuardEntry) -> String {
    let allow: Vec<_> = entry.allow.iter().map(AllowEntry::spec).collect();
    guard::admit(entry.port, entry.protocol(), &allow, answer.request.uid)
}

fn machine_remedies(answer: &WhyAnswer, refused: &PredictedRefusal) -> Vec<String> {
    match refused {
        PredictedRefusal::NeedsPrivilege => privilege_remedies(answer),
        PredictedRefusal::NotLocal => vec!["one of the addresses that `ip address` lists".into()],
        PredictedRefusal::NoDevice => vec!["one of the interfaces that `ip link` lists".into()],
        PredictedRefusal::MappedAndV6only => vec!["an IPv6 address, or no --v6only".into()],
        PredictedRefusal::NoScope => vec!["--device with the interface that has it".into()],
        PredictedRefusal::NotTransparent => vec!["root".into()],
        PredictedRefusal::InUse(_) => vec![],
    }
}

/// The ways to bind a low port. If sockets prevent the bind as well, one of these and one way to remove the
/// sockets are needed.
fn privilege_remedies(answer: &WhyAnswer) -> Vec<String> {
    let port = answer.request.address.port();
    let root = root_prefix(answer.caller);
    let mut rights = vec![
        "start the program as root".to_owned(),
        format!("{root}setcap cap_net_bind_service=+ep PROGRAM (not for a script)"),
        format!("{root}sysctl net.ipv4.ip_unprivileged_port_start={port}, for every user"),
    ];
    let Some((_, remedies)) = &answer.privileged else {
        if answer.has_systemd {
            let listen = match answer.request.address.protocol {
                Protocol::Tcp => "ListenStream",
                Protocol::Udp => "ListenDatagram",
            };
            let at = answer.request.address.socket;
            rights.push(format!(
                "{root}a socket unit with {listen}={at} for a service with `sameport run --name NAME -- \
                 COMMAND`"
            ));
        }
        return rights;
    };
    // Another user cannot bind a low port either.
    let is_removal = |remedy: &&Remedy| !matches!(remedy, Remedy::AsUser { .. });
    let removals = remedies.iter().filter(is_removal).filter_map(|remedy| line(answer, remedy));
    let mut lines = vec![format!("the right: {}", rights.join("; or "))];
    lines.extend(removals.map(|line| format!("and the port: {line}")));
    lines
}

/// The way to a certain answer that changes nothing.
fn doubtful(answer: &WhyAnswer, doubts: &[Uncertainty]) -> Vec<String> {
    let with: Vec<usize> = doubts.iter().map(|doubt| doubt.index).collect();
    let unread =
        members(answer, &with).any(|member| member.options.is_none() && member.socket.inode != 0);
    let ask = (unread && answer.caller != 0)
        .then(|| "ask as root, which can read every option".to_owned());
    ask.into_iter().collect()
}

fn wait(longest: Duration) -> String {
    format!("wait {} s for closed connections", seconds_rounded_up(longest))
}

pub(super) fn line(answer: &WhyAnswer, remedy: &Remedy) -> Option<String> {
    Some(match remedy {
        Remedy::ReuseAddress if only_closed_connections(answer) => {
            "SO_REUSEADDR on yours, if the program of the closed connections had it too".into()
        }
        Remedy::ReuseAddress => "SO_REUSEADDR on yours".into(),
        Remedy::Join(_) => {
            format!("share it, the other side is ready: {}", join(answer, answer.request.uid))
        }
        Remedy::Share(with) => {
            let change = holder::sharing(holders(answer, with), answer.caller)?;
            format!("share it: {change}, and yours under `{}`", join(answer, answer.request.uid))
        }
        // The owner of a private group is no user.
        Remedy::AsUser { uid, .. } if is_private_uid(*uid) => return None,
        Remedy::AsUser { uid, restart } => {
            let join = join(answer, *uid);
            match &restart[..] {
                [] => join,
                with => {
                    let change = holder::sharing(holders(answer, with), answer.caller)?;
                    format!("{join}, after {change}")
                }
            }
        }
        Remedy::Remove(with) => without(answer, with),
        Remedy::OneFamily(address) => format!("{address}: {} only", family(address)),
        Remedy::Specific(addresses) => {
            let addresses: Vec<String> = addresses.iter().map(Address::to_string).collect();
            format!("a single address instead of all: {}", addresses.join(", "))
        }
        Remedy::Freebind => {
            "before an interface has it: sameport run --freebind -- COMMAND".to_owned()
        }
        Remedy::Transparent => {
            format!("{}sameport run --transparent -- COMMAND", root_prefix(answer.caller))
        }
        Remedy::OtherPort(port) => {
            let asked = answer.request.address.port();
            let udp = match answer.request.address.protocol {
                Protocol::Tcp => "",
                Protocol::Udp => "udp:",
            };
            format!("port {port}, which is free: sameport run --map {udp}{asked}={port} -- COMMAND")
        }
    })
}

/// The command that shares the address in the name of this user.
fn join(answer: &WhyAnswer, uid: u32) -> String {
    let rights = if uid == answer.caller { Rights::Caller } else { Rights::User(uid) };
    format!("{}sameport run --join -- COMMAND", rights_prefix(rights))
}

fn holders<'a>(answer: &'a WhyAnswer, with: &'a [usize]) -> impl Iterator<Item = &'a Holder> {
    with.iter().map(|index| &answer.holders[*index])
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

fn without(answer: &WhyAnswer, with: &[usize]) -> String {
    let mut ways = vec![holder::endings(&endings(holders(answer, with), answer.caller))];
    let ends = with.iter().filter_map(|at| match &answer.sockets[*at] {
        PortUser::TimeWait(closed) => Some(closed.ends_in),
        PortUser::Socket(member) => {
            let socket = &member.socket;
            let is_open = socket.state == SocketState::Connected && !socket.peer_closed;
            (is_open && socket.address.protocol == Protocol::Tcp).then_some(TIME_WAIT)
        }
    });
    ways.extend(ends.max().map(wait));
    ways.retain(|way| !way.is_empty());
    let port = answer.request.address.port();
    let other = holders(answer, with).find_map(|holder| holder::alternative(holder, port));
    ways.join(", and ") + &other.map_or(String::new(), |other| format!("; or {other}"))
}

fn family(address: &Address) -> &'static str {
    if address.socket.is_ipv4() { "IPv4" } else { "IPv6" }
}
