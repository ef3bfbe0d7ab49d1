//! The output of `why`: the answers as text and as JSON.

mod json;
mod remedies;

use sameport_policy::holder::{ConnectionEnd, Holder};
use sameport_policy::model::{Address, Member, Protocol, SocketState, is_private_uid};
use sameport_policy::predict::{
    Conflict, Missing, PredictedRefusal, PredictedResult, Prediction, ReuseFlag, TrafficEffect,
    TrafficOutcome, Uncertainty, UnknownFact,
};

use crate::operations::why::{PortUser, WhyAnswer};
use crate::output::guard;
use crate::output::holder::description;
use crate::output::shell;
use crate::output::socket_owner::owner;
use crate::output::text::printable;

pub(crate) use json::json;

/// Sockets in one answer on a terminal; the others are counted.
const LISTED: usize = 8;

/// For each address the answer, then the sockets that it depends on, then the remedies. `width`: the columns of
/// the terminal; nothing is left out without one.
pub(crate) fn text(answers: &[WhyAnswer], width: Option<usize>) -> String {
    let texts: Vec<String> = answers.iter().map(|answer| answer_text(answer, width)).collect();
    texts.join("\n")
}

fn answer_text(answer: &WhyAnswer, width: Option<usize>) -> String {
    let listed = if width.is_some() { LISTED } else { usize::MAX };
    let mut text = format!("{}\n", headline(answer));
    // Many sockets of one program differ in nothing that is printed.
    let mut blocks: Vec<(String, usize)> = Vec::new();
    for (index, remark) in remarks(answer) {
        let block = block(answer, index, &remark, width);
        match blocks.iter_mut().find(|(known, _)| *known == block) {
            Some((_, times)) => *times += 1,
            None => blocks.push((block, 1)),
        }
    }
    // Workers of one run differ in the first line only.
    let mut bodies: Vec<(&str, String)> = Vec::new();
    for (block, times) in blocks.iter().take(listed) {
        let (first, rest) = block.split_once('\n').unwrap_or((block, ""));
        let times = if *times > 1 { format!(" ({times} times)") } else { String::new() };
        let first = format!("  {first}{times}\n");
        match bodies.iter_mut().find(|(body, _)| *body == rest) {
            Some((_, firsts)) => firsts.push_str(&first),
            None => bodies.push((rest, first)),
        }
    }
    text.extend(bodies.iter().flat_map(|(rest, firsts)| [firsts, *rest]));
    if blocks.len() > listed {
        text.push_str(&format!("  and {} more\n", blocks.len() - listed));
    }
    let remedies = remedies::lines(answer);
    if !remedies.is_empty() {
        text.push_str("what would work\n");
        for line in remedies {
            text.push_str(&format!("  {line}\n"));
        }
    }
    for index in &answer.siblings {
        text.push_str(&format!("{}\n", sibling_note(answer, *index)));
    }
    if !answer.bound_seen && answer.request.address.protocol == Protocol::Tcp {
        text.push_str(
            "not seen: sockets that are bound and do not listen (Linux 6.8 lists them)\n",
        );
    }
    text
}

/// `no: 0.0.0.0:80/tcp (user ann, SO_REUSEADDR) cannot be bound: EACCES by bind: …`.
fn headline(answer: &WhyAnswer) -> String {
    let request = request_label(answer);
    if let Some(guard) = &answer.guard {
        let only = guard::allowed_list(guard);
        return format!("no: {request} cannot be bound: EPERM by bind: it is guarded for {only}");
    }
    match &answer.prediction.result {
        PredictedResult::Granted => {
            format!("yes: {request} can be bound{}", traffic_suffix(answer))
        }
        PredictedResult::Uncertain(_) => {
            format!(
                "unsure: whether {request} can be bound depends on facts that cannot be read from here"
            )
        }
        PredictedResult::Refused(refused) => {
            let (call, errno) = refused.error();
            let reason = reason(answer, refused);
            let also = match &answer.privileged {
                Some((Prediction { result: PredictedResult::Refused(next), .. }, _)) => {
                    format!("; with it: {} by {}", next.error().1, next.error().0)
                }
                _ => String::new(),
            };
            format!("no: {request} cannot be bound: {errno} by {call}: {reason}{also}")
        }
    }
}

/// `0.0.0.0:80/tcp (user ann, SO_REUSEADDR)`.
fn request_label(answer: &WhyAnswer) -> String {
    let WhyAnswer { request, user, .. } = answer;
    let Address { protocol, .. } = request.address;
    let options = options(request.reuse_address, request.reuse_port);
    let user = user.as_deref().map_or_else(|| request.uid.to_string(), printable);
    format!("{}/{protocol} (user {user}, {options})", request.address)
}

fn options(reuse_address: bool, reuse_port: bool) -> &'static str {
    match (reuse_address, reuse_port) {
        (false, false) => "neither SO_REUSEADDR nor SO_REUSEPORT",
        (true, false) => "SO_REUSEADDR",
        (false, true) => "SO_REUSEPORT",
        (true, true) => "SO_REUSEADDR and SO_REUSEPORT",
    }
}

fn traffic_suffix(answer: &WhyAnswer) -> &'static str {
    let any = |outcome| answer.prediction.effects.iter().any(|effect| effect.outcome == outcome);
    if any(TrafficOutcome::Taken) {
        ", and would take traffic from others"
    } else if any(TrafficOutcome::Shared) {
        ", and would share"
    } else if any(TrafficOutcome::Kept) {
        ", and would not get all of its traffic"
    } else {
        ""
    }
}

fn reason(answer: &WhyAnswer, refused: &PredictedRefusal) -> String {
    let port = answer.request.address.port();
    match refused {
        PredictedRefusal::NoDevice => {
            let device = answer.request.address.device.as_deref().unwrap_or_default();
            format!("there is no interface {}", printable(device))
        }
        PredictedRefusal::NotTransparent => "it needs CAP_NET_ADMIN or CAP_NET_RAW".into(),
        PredictedRefusal::NeedsPrivilege => {
            format!("port {port} is so low that it needs CAP_NET_BIND_SERVICE")
        }
        PredictedRefusal::MappedAndV6only => {
            "it is an IPv4 address, and IPV6_V6ONLY refuses those".into()
        }
        PredictedRefusal::NoScope => "a link-local address needs --device".into(),
        PredictedRefusal::NotLocal => "no interface of this machine has that address".into(),
        PredictedRefusal::InUse(conflicts) => {
            match (remedies::only_closed_connections(answer), conflicts.len()) {
                (true, _) => "its closed connections (TIME_WAIT) still hold it".into(),
                (false, 1) => "another socket is in the way".into(),
                (false, several) => format!("{several} sockets are in the way"),
            }
        }
    }
}

/// The remark about each socket that the answer depends on, by index.
fn remarks(answer: &WhyAnswer) -> Vec<(usize, String)> {
    let prediction = answer.privileged.as_ref().map_or(&answer.prediction, |(next, _)| next);
    match &prediction.result {
        PredictedResult::Refused(PredictedRefusal::InUse(conflicts)) => {
            let remark = |conflict: &Conflict| (conflict.index, conflict_remark(answer, conflict));
            conflicts.iter().map(remark).collect()
        }
        PredictedResult::Refused(_) => vec![],
        PredictedResult::Uncertain(doubts) => {
            doubts.iter().map(|doubt| (doubt.index, doubtful(answer, doubt))).collect()
        }
        PredictedResult::Granted => {
            let effects = answer.prediction.effects.iter();
            effects.map(|effect| (effect.index, outcome(answer, effect))).collect()
        }
    }
}

/// `SO_REUSEPORT is missing on both sides; SO_REUSEADDR does not help against a listener`.
fn conflict_remark(answer: &WhyAnswer, conflict: &Conflict) -> String {
    let Missing { ours, theirs, same_user } = conflict.share_lacks;
    let sides = |ours, theirs| match (ours, theirs) {
        (true, true) => Some("is missing on both sides"),
        (true, false) => Some("is missing on yours"),
        (false, true) => Some("is missing on this one"),
        (false, false) => None,
    };
    let mut reasons = Vec::new();
    if same_user {
        reasons.push(match &answer.sockets[conflict.index] {
            PortUser::Socket(member) if is_private(member) => {
                format!(
                    "sockets of user id {}: a private group, which no other socket can join",
                    member.socket.uid
                )
            }
            PortUser::Socket(member) => {
                format!("it belongs to user {}: only sockets of one user can share", owner(member))
            }
            PortUser::TimeWait(_) => String::new(),
        });
    }
    reasons.extend(sides(ours, theirs).map(|sides| format!("SO_REUSEPORT {sides}")));
    match conflict.reuse_lacks {
        None => reasons.push("SO_REUSEADDR does not help against a listener".into()),
        Some(Missing { ours, theirs, .. }) => {
            reasons.extend(sides(ours, theirs).map(|sides| format!("SO_REUSEADDR {sides}")));
        }
    }
    format!("because   {}", reasons.join("; "))
}

/// Whether the socket belongs to a private group.
fn is_private(member: &Member) -> bool {
    is_private_uid(member.socket.uid)
}

fn doubtful(answer: &WhyAnswer, doubt: &Uncertainty) -> String {
    let is_closed = matches!(answer.sockets[doubt.index], PortUser::TimeWait(_));
    let names = |flags: &[ReuseFlag]| {
        let name = |flag: &ReuseFlag| match flag {
            ReuseFlag::ReuseAddress => "SO_REUSEADDR",
            ReuseFlag::ReusePort => "SO_REUSEPORT",
        };
        flags.iter().map(name).collect::<Vec<_>>().join(" or ")
    };
    match &doubt.unknown {
        UnknownFact::AnySet(flags) if is_closed => format!(
            "if        its program had {}, it can be bound, and else not yet; most \
             servers have SO_REUSEADDR",
            names(flags)
        ),
        UnknownFact::AnySet(flags) => {
            format!("if        this one has {}, it can be bound, and else not", names(flags))
        }
        UnknownFact::V6onlyOrAnySet(flags) if flags.is_empty() => {
            "if        it comes from a socket that serves IPv4 too, it cannot be bound".into()
        }
        UnknownFact::V6onlyOrAnySet(flags) => format!(
            "if        it comes from a socket that serves IPv4 too, and lacks {}, it cannot be bound",
            names(flags)
        ),
        UnknownFact::LookupOrder => {
            "if        the kernel comes to this one first (it was bound last), it can be \
                            bound, although others are in the way that do not share"
                .into()
        }
    }
}

fn outcome(answer: &WhyAnswer, effect: &TrafficEffect) -> String {
    let on = &effect.address;
    let udp = on.protocol == Protocol::Udp;
    let unit = if udp { "datagrams" } else { "connections" };
    match effect.outcome {
        TrafficOutcome::Shared => format!("shares    the {unit} to {on} with yours"),
        TrafficOutcome::Kept => format!("keeps     the {unit} to {on}: yours gets none of them"),
        TrafficOutcome::Race => format!("race      the first of the two that listens gets {on}"),
        TrafficOutcome::Unclear => {
            format!("unclear   which socket gets the {unit} to {on}: it cannot be read from here")
        }
        TrafficOutcome::Taken => {
            let other_user = match &answer.sockets[effect.index] {
                PortUser::Socket(member) => member.socket.uid != answer.request.uid,
                PortUser::TimeWait(_) => false,
            };
            let suffix = if other_user { ", of another user" } else { "" };
            format!("loses     the {unit} to {on} to yours, all of them{suffix}")
        }
    }
}

/// A socket: its program, command and options, and the remark.
fn block(answer: &WhyAnswer, with: usize, remark: &str, width: Option<usize>) -> String {
    let mut lines = Vec::new();
    match &answer.sockets[with] {
        PortUser::TimeWait(closed) => {
            // The seconds of each differ; the remedies have the longest.
            lines.push(format!("a closed connection holds {} (TIME_WAIT)", closed.address));
        }
        PortUser::Socket(member) => {
            let holder = &answer.holders[with];
            // A relative clause ends with a comma.
            let is_clause = holder.label().is_some_and(|label| label.contains("whose "));
            let comma = if is_clause { "," } else { "" };
            lines.push(format!("{}{comma} {}", description(holder), activity(member, holder)));
            let details = holder.process.as_ref().and_then(|process| process.details.as_ref());
            if let Some(command) = details.map(|details| &details.command).filter(|c| !c.is_empty())
            {
                let command = match width {
                    Some(_) => shell::excerpt(command),
                    None => shell::command(command),
                };
                lines.push(format!("    command   {command}"));
            }
            if let Some(directory) = details.and_then(|details| details.directory.as_ref()) {
                let directory = printable(&directory.to_string_lossy());
                lines.push(format!("    directory {directory}"));
            }
            let known = &answer.known[with];
            let options = match (known.reuse_address, known.reuse_port) {
                (Some(address), Some(port)) => options(address, port),
                (None, Some(true)) => "SO_REUSEPORT; root can read whether SO_REUSEADDR too",
                _ => "cannot be read from here: root can",
            };
            lines.push(format!("    options   {options}"));
        }
    }
    lines.push(format!("    {remark}"));
    lines.join("\n") + "\n"
}

fn activity(member: &Member, holder: &Holder) -> String {
    let address = &member.socket.address;
    let peer = holder.peer.map_or(String::new(), |peer| format!(" to {peer}"));
    match (member.socket.state, address.protocol) {
        (SocketState::Waiting, Protocol::Tcp) => format!("listens on {address}"),
        (SocketState::Waiting, Protocol::Udp) => format!("receives on {address}"),
        (SocketState::Bound, _) => {
            format!("is bound to {address}, and neither listens nor is connected")
        }
        (SocketState::Connected, _) if holder.peer_closed => {
            format!(
                "has not closed its connection from {address}{peer}, which the peer has closed (CLOSE_WAIT)"
            )
        }
        (SocketState::Connected, _) => match holder.connection {
            Some(ConnectionEnd::Accepted) => {
                format!("has a connection from {address}{peer}, accepted by a listener")
            }
            _ => format!("has a connection from {address}{peer}: the port is its own end of it"),
        },
    }
}

/// `note: node (pid 12, user ann) listens on [::1]:8080: clients of `localhost` may reach it instead`.
fn sibling_note(answer: &WhyAnswer, index: usize) -> String {
    let PortUser::Socket(member) = &answer.sockets[index] else { return String::new() };
    let holder = &answer.holders[index];
    let is_loopback = answer.request.address.socket.ip().is_loopback();
    let clients = match (is_loopback, member.socket.address.socket.is_ipv4()) {
        (true, _) => "clients of `localhost`",
        (false, true) => "clients by IPv4",
        (false, false) => "clients by IPv6",
    };
    let holder_line = format!("{} {}", description(holder), activity(member, holder));
    format!("note: {holder_line}: {clients} may reach it instead")
}
